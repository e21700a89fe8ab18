import { setTimeout as sleep } from "node:timers/promises";

/** A stage of a pipeline that lets through so many bytes a second, so that a slow network can be watched. */
export function slowedTo(bytesPerSecond: number) {
    return async function* (
        source: AsyncIterable<Buffer>,
        { signal }: { signal?: AbortSignal } = {},
    ): AsyncGenerator<Buffer> {
        const begun = Date.now();
        let passed = 0;
        for await (const chunk of source) {
            passed += chunk.length;
            const early = begun + (passed / bytesPerSecond) * 1000 - Date.now();
            if (early > 0) await sleep(early, undefined, signal === undefined ? {} : { signal });
            yield chunk;
        }
    };
}
