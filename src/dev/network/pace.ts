import { setTimeout as sleep } from "node:timers/promises";

/** Pieces are small enough that one never holds the line for longer than this. */
const PIECE_MS = 50;

/** Hands the chunks on no faster than `bytesPerSecond`; undefined is as fast as the reader takes them. */
export async function* paced(
    chunks: Iterable<Buffer> | AsyncIterable<Buffer>,
    bytesPerSecond: number | undefined,
): AsyncGenerator<Buffer> {
    if (bytesPerSecond === undefined) {
        yield* chunks;
        return;
    }
    const pieceBytes = Math.max(1, Math.floor((bytesPerSecond * PIECE_MS) / 1000));
    let dueAt = performance.now();
    for await (const chunk of chunks) {
        for (let at = 0; at < chunk.length; at += pieceBytes) {
            const piece = chunk.subarray(at, at + pieceBytes);
            const wait = dueAt - performance.now();
            if (wait > 1) await sleep(wait);
            // A reader that was slow itself gets no burst afterwards.
            dueAt = Math.max(dueAt, performance.now() - PIECE_MS) + (piece.length / bytesPerSecond) * 1000;
            yield piece;
        }
    }
}
