import { redactUrl } from "../../redact.ts";

/**
 * Where bytes come from. A source description is plain JSON: it is what the journal keeps, so that after a restart
 * the file can be opened again.
 */
export type SourceDescription =
    | {
          readonly kind: "http";
          readonly url: string;
          /** Sent to the origin of `url` only, never along a redirect to another one. */
          readonly headers?: Readonly<Record<string, string>>;
      }
    | { readonly kind: "file"; readonly path: string }
    | {
          readonly kind: "connector";
          /** The name under which the connector was given in the `connectors` option. */
          readonly connector: string;
          /** The connector's own reference to the file; any JSON value. */
          readonly ref: unknown;
      }
    | {
          /** Bytes that a caller handed over, copied to disk before the message was journaled. */
          readonly kind: "spool";
          readonly name: string;
      };

/** Bytes as they come; every `Readable` of bytes is one. */
export interface ByteStream extends AsyncIterable<Uint8Array> {
    /** Ends it before its end; harmless after it. */
    destroy(): unknown;
}

/** An open file: what is known of it, and its bytes. Whoever holds it reads `stream` to its end or destroys it. */
export interface OpenedSource {
    readonly stream: ByteStream;
    /** Exact length in bytes; undefined where the source does not say. */
    readonly size?: number | undefined;
    /** As the source claims; not to be trusted. */
    readonly mimetype?: string | undefined;
}

/** One kind of source. `sourceContract` in `matrix-bridge-media/testing` checks an implementation. */
export interface Source<Description> {
    /** Opens the file at its beginning. Rejects with a MediaError; `signal` ends the opening and the stream. */
    open(description: Description, signal: AbortSignal): Promise<OpenedSource>;
}

/**
 * What a network with expiring links or a protocol of its own implements, and gives as
 * `new BridgeMedia(bridge, { connectors: { name: connector } })`.
 */
export interface Connector {
    /**
     * Opens the file that `ref` stands for.
     * @param options.offset Bytes to skip; 0 unless a broken connection is resumed.
     */
    open(ref: unknown, options: { offset: number; signal: AbortSignal }): Promise<OpenedSource>;
    /** Asks the network for a fresh reference when the old one no longer opens. */
    refresh?(ref: unknown): Promise<unknown>;
}

/** A description that is safe to keep or show after the transfer: no credentials, no query. */
export function withoutSecrets(source: SourceDescription): SourceDescription {
    switch (source.kind) {
        case "http":
            return { kind: "http", url: redactUrl(source.url) };
        case "connector":
            return { kind: "connector", connector: source.connector, ref: null };
        default:
            return source;
    }
}
