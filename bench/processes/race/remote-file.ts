/** A whole remote file in memory, as bridges get it today. */
export async function wholeFile(url: string): Promise<Buffer> {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`the remote answered ${response.status}`);
    return Buffer.from(await response.arrayBuffer());
}
