import type { IncomingMessage } from "node:http";

/**
 * The whole body; undefined where it was cut off.
 *
 * @param isStruck Asked when half of it has come; true lets go of the rest.
 */
export async function bodyOf(
    request: IncomingMessage,
    isStruck: () => boolean | Promise<boolean>,
): Promise<Buffer | undefined> {
    const chunks: Buffer[] = [];
    const half = Number(request.headers["content-length"] ?? 0) / 2;
    let received = 0;
    try {
        for await (const chunk of request as AsyncIterable<Buffer>) {
            const before = received;
            received += chunk.length;
            chunks.push(chunk);
            if (before < half && received >= half && (await isStruck())) return undefined;
        }
    } catch {
        return undefined;
    }
    return request.complete ? Buffer.concat(chunks) : undefined;
}
