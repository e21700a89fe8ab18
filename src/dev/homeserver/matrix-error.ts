/** A Matrix error as a client sees it: HTTP status, `errcode`, `error`, and what else the body carries. */
export class MatrixError extends Error {
    readonly status: number;
    readonly errcode: string;
    readonly fields: Readonly<Record<string, unknown>>;

    constructor(status: number, errcode: string, message: string, fields: Readonly<Record<string, unknown>> = {}) {
        super(message);
        this.name = "MatrixError";
        this.status = status;
        this.errcode = errcode;
        this.fields = fields;
    }

    get body(): Record<string, unknown> {
        return { errcode: this.errcode, error: this.message, ...this.fields };
    }
}

export const forbidden = (message: string): MatrixError => new MatrixError(403, "M_FORBIDDEN", message);

export const notFound = (message: string): MatrixError => new MatrixError(404, "M_NOT_FOUND", message);

export const invalid = (message: string): MatrixError => new MatrixError(400, "M_INVALID_PARAM", message);

export const limitExceeded = (retryAfterMs: number): MatrixError =>
    new MatrixError(429, "M_LIMIT_EXCEEDED", "Too Many Requests", {
        retry_after_ms: Math.max(0, Math.ceil(retryAfterMs)),
    });
