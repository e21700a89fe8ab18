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
    /** As the source claims; not to be trusted. */
    readonly filename?: string | undefined;
    /** Where the file is found from now on, when the description given was stale. */
    readonly refreshed?: SourceDescription | undefined;
}

/** What a connector gives: an open file under the reference it was asked for. */
export type ConnectorFile = Omit<OpenedSource, "refreshed">;

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
     * Opens the file that `ref` stands for. Rejects with whatever the network's library throws: its HTTP status is
     * understood (`error.status`, `error.statusCode`, `error.response`), or with a `MediaError` of a fitting code.
     * @param options.offset Bytes to skip. Always 0 so far: a stream that broke begins anew with the next try.
     */
    open(ref: unknown, options: { offset: number; signal: AbortSignal }): Promise<ConnectorFile>;
    /**
     * Asks the network for a fresh reference when the old one no longer opens (401, 403, 404, 410). Asked at most once
     * a try; what it gives (any JSON value) is journaled, and the next try starts with it.
     */
    refresh?(ref: unknown): Promise<unknown>;
    /**
     * Where everybody may fetch the file that `ref` stands for, if anywhere: asked when a message comes whose item has no
     * `publicUrl`, and held to the same rules; what does not keep them is left out.
     */
    publicUrl?(ref: unknown): string | undefined;
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
