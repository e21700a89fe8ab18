import { pipeline } from "node:stream/promises";
import type { Agents } from "got";
import { got } from "got";
import { MediaError } from "../../errors.ts";
import { LinkedAbort } from "../../linked-abort.ts";
import { type Answer, jsonBody } from "../../matrix/answer.ts";
import { connectionError } from "../../matrix/request.ts";
import type { StepLimits } from "../limits.ts";

/** An answer to an upload is a small JSON object; what comes beyond this is not kept. */
const MAX_ANSWER_BYTES = 64 * 1024;

export interface PutRequest {
    readonly method: "PUT" | "POST";
    readonly url: URL;
    /** Undefined takes out what the HTTP client would say by itself. */
    readonly headers: Readonly<Record<string, string | undefined>>;
    readonly body: AsyncIterable<Uint8Array>;
    readonly agents: Agents;
    readonly limits: StepLimits;
}

/**
 * Streams a body out and returns the answer, also one that comes before the body has gone out (a refusal). Redirects
 * are not followed. Rejects with the body's own MediaError, or with UPLOAD_INTERRUPTED / HOMESERVER_UNREACHABLE.
 */
export async function putStream(request: PutRequest, signal: AbortSignal): Promise<Answer> {
    const { connectMs, headersMs, idleMs } = request.limits;
    const early = new LinkedAbort([signal]);
    const stream = got.stream(request.url, {
        method: request.method,
        headers: { ...request.headers },
        agent: request.agents,
        followRedirect: false,
        throwHttpErrors: false,
        retry: { limit: 0 },
        decompress: false,
        timeout: {
            lookup: connectMs,
            connect: connectMs,
            secureConnect: connectMs,
            response: headersMs,
            socket: idleMs,
        },
    });
    let answer: Answer | undefined;
    async function readAnswer(chunks: AsyncIterable<Uint8Array>): Promise<void> {
        const kept: Uint8Array[] = [];
        let length = 0;
        for await (const chunk of chunks) {
            if (length < MAX_ANSWER_BYTES) kept.push(chunk);
            length += chunk.length;
        }
        answer = {
            status: stream.response?.statusCode ?? 0,
            ...jsonBody(Buffer.concat(kept).toString()),
            retryAfter: stream.response?.headers["retry-after"],
        };
        // Refused before the end: the rest of the body has nowhere to go.
        if (!stream.writableEnded) early.abort();
    }
    try {
        await pipeline(request.body, stream, readAnswer, { signal: early.signal });
    } catch (error) {
        if (answer !== undefined) return answer;
        throw uploadError(error, signal);
    } finally {
        early.release();
    }
    if (answer === undefined) throw new MediaError("UPLOAD_INTERRUPTED", { ambiguous: true });
    return answer;
}

function uploadError(error: unknown, signal: AbortSignal): MediaError {
    for (let cause = error; cause instanceof Error; cause = cause.cause) {
        if (cause instanceof MediaError) return cause;
    }
    const mapped = connectionError(error, "HOMESERVER_UNREACHABLE", signal);
    // A connection that was made and then broke may be this file's own doing, so it uses up one of its tries.
    return mapped.code === "HOMESERVER_UNREACHABLE" && mapped.ambiguous
        ? connectionError(error, "UPLOAD_INTERRUPTED", signal)
        : mapped;
}
