/** Does the same thing over and over, several at once, for as long as the process lives. */
export function repeat(count: number, action: () => Promise<unknown>): void {
    const lane = async () => {
        while (true) await action();
    };
    for (let i = 0; i < count; i++) lane().catch((error: unknown) => console.error(error));
}
