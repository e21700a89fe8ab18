import type { ClientRequest, IncomingMessage } from "node:http";
import { MediaError } from "../../errors.ts";
import { type Answer, isSuccess, jsonBody } from "../../matrix/answer.ts";
import { connectionError } from "../../matrix/request.ts";
import { type LimitedRequest, limitedRequest } from "../limited-request.ts";

/** An answer to an upload is a small JSON object; what comes beyond this is not kept. */
const MAX_ANSWER_BYTES = 64 * 1024;

export interface PutRequest extends LimitedRequest {
    /** Exact length of `body` in bytes. */
    readonly size: number;
    readonly body: AsyncIterable<Uint8Array>;
    /** Whether it can be the answer to this request; if not, the connection has no other request, for this one's own is still to come. */
    readonly isOwn?: (answer: Answer) => boolean;
}

/**
 * Streams a body out and returns the answer, also one that comes before the body has gone out (a refusal). Redirects
 * are not followed. Rejects with the body's own MediaError, or with UPLOAD_INTERRUPTED / HOMESERVER_UNREACHABLE.
 */
export async function putStream(put: PutRequest): Promise<Answer> {
    const pieces = put.body[Symbol.asyncIterator]();
    try {
        // Not before there is something to send: a connection that was kept and stays silent for a slow source's sake is closed by
        // whoever stands before the homeserver.
        const first = await pieces.next();
        return await exchanged(put, first, pieces);
    } catch (error) {
        throw uploadError(error, put.signal);
    }
}

function exchanged(
    put: PutRequest,
    first: IteratorResult<Uint8Array>,
    pieces: AsyncIterator<Uint8Array>,
): Promise<Answer> {
    const { size, headers } = put;
    return new Promise((resolve, reject) => {
        let sent = 0;
        const fail = (cause: unknown): void => {
            reject(cause);
            request.destroy();
        };
        const request = limitedRequest({ ...put, headers: { ...headers, "content-length": size } }, fail);
        request.on("response", (response) => {
            collect(response, fail, (answer) => {
                const isOut = sent === size && request.writableLength === 0;
                // Whoever says that it has the file before it was given the file has something else.
                if (!isOut && isSuccess(answer.status)) return fail(interrupted());
                if (put.isOwn?.(answer) === false) request.socket?.destroy();
                resolve(answer);
                // Refused before the end: the rest of the body has nowhere to go.
                if (!isOut) request.destroy();
            });
        });
        const pump = async (): Promise<void> => {
            for (let next = first; next.done !== true; next = await pieces.next()) {
                if (request.destroyed) return;
                sent += next.value.length;
                if (!request.write(next.value)) await drained(request);
                // Whoever asks for another piece has the source read on.
                if (request.destroyed) return;
            }
            request.end();
        };
        const letGo = async (): Promise<void> => void (await pieces.return?.());
        pump()
            .catch(fail)
            .then(letGo)
            .catch(() => {});
    });
}

/** Resolves also when there is nobody any more who would take the rest. */
function drained(request: ClientRequest): Promise<void> {
    return new Promise((resolve) => {
        const done = (): void => {
            request.off("drain", done);
            request.off("close", done);
            resolve();
        };
        request.on("drain", done);
        request.on("close", done);
    });
}

function interrupted(): MediaError {
    return new MediaError("UPLOAD_INTERRUPTED", { detail: "answered with success before its end", ambiguous: true });
}

function collect(response: IncomingMessage, fail: (cause: unknown) => void, then: (answer: Answer) => void): void {
    const kept: Buffer[] = [];
    let length = 0;
    response.on("data", (chunk: Buffer) => {
        if (length < MAX_ANSWER_BYTES) kept.push(chunk);
        length += chunk.length;
    });
    response.on("end", () => {
        const { statusCode: status = 0, headers } = response;
        then({ status, ...jsonBody(Buffer.concat(kept).toString()), retryAfter: headers["retry-after"] });
    });
    // Also where the connection ends before the answer does.
    response.on("error", fail);
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
