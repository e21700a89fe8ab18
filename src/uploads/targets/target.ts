/** Where bytes go to. */

export interface Upload {
    /** The Matrix user who reserved the address and alone may fill it. */
    readonly uploader: string;
    /** The reserved address; undefined where the server gives one only with the upload. */
    readonly contentUri: string | undefined;
    /** Exact length of `body` in bytes. */
    readonly size: number;
    readonly mimetype: string;
    readonly filename: string | undefined;
    /** An earlier try may have left other bytes at the address: encrypted with another key. @default false */
    readonly contentMayDiffer?: boolean;
    /** Yields exactly `size` bytes or throws a MediaError. */
    readonly body: AsyncIterable<Uint8Array>;
}

export interface Target {
    /**
     * Transfers the body and returns its MXC URI once the content is there for good. When it rejects, the address can
     * be tried again unless the error is final.
     */
    put(upload: Upload, signal: AbortSignal): Promise<string>;
}
