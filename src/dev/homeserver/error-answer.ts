/** Whatever is thrown leaves the server as a Matrix error. */
import type { FastifyReply } from "fastify";
import { isObject } from "./json.ts";
import { MatrixError } from "./matrix-error.ts";

export async function sendError(error: unknown, reply: FastifyReply): Promise<void> {
    const answer = asMatrixError(error);
    if (answer.status >= 500) reply.log.error(error);
    const retryAfterMs = answer.fields["retry_after_ms"];
    if (typeof retryAfterMs === "number") reply.header("retry-after", Math.ceil(retryAfterMs / 1000));
    await reply.code(answer.status).send(answer.body);
}

function asMatrixError(error: unknown): MatrixError {
    if (error instanceof MatrixError) return error;
    const status = isObject(error) ? error["statusCode"] : undefined;
    if (status === 413) return new MatrixError(413, "M_TOO_LARGE", "Request content is too large");
    if (typeof status === "number" && status < 500) {
        return new MatrixError(status, "M_UNKNOWN", error instanceof Error ? error.message : "Bad request");
    }
    return new MatrixError(500, "M_UNKNOWN", "Internal server error");
}
