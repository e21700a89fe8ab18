import { Readable } from "node:stream";
import { type ErrorCode, MediaError } from "../../errors.ts";
import { LinkedAbort } from "../../linked-abort.ts";
import type { StepLimits } from "../limits.ts";
import { ConnectorStream } from "./connector-stream.ts";
import type { Connector, ConnectorFile, OpenedSource, Source, SourceDescription } from "./source.ts";
import { connectorError } from "./status-error.ts";

type ConnectorDescription = Extract<SourceDescription, { kind: "connector" }>;

/** Errors after which a fresh reference may help: the link has run out. */
const STALE = new Set<ErrorCode>(["SOURCE_NOT_FOUND", "SOURCE_FORBIDDEN"]);
/** A reference goes into the journal. */
const MAX_REF_BYTES = 64 * 1024;

/** Undefined where none of that name was given. */
export function connectorOf(connectors: Readonly<Record<string, Connector>>, name: string): Connector | undefined {
    return Object.hasOwn(connectors, name) ? connectors[name] : undefined;
}

/**
 * Opens files through the embedder's connectors, asking once per try for a fresh reference where the old one is stale.
 * A connector is other people's code: it gets the time limits of an HTTP source, and what it gives is looked at.
 */
export class ConnectorSource implements Source<ConnectorDescription> {
    readonly #connectors: Readonly<Record<string, Connector>>;
    readonly #limits: StepLimits;

    constructor(connectors: Readonly<Record<string, Connector>>, limits: StepLimits) {
        this.#connectors = connectors;
        this.#limits = limits;
    }

    async open(description: ConnectorDescription, signal: AbortSignal): Promise<OpenedSource> {
        const { connector: name, ref } = description;
        const connector = connectorOf(this.#connectors, name);
        if (connector === undefined) throw new MediaError("CONNECTOR_UNKNOWN", { detail: name });
        try {
            return await this.#openAt(connector, ref, signal);
        } catch (thrown) {
            const error = connectorError(thrown);
            if (connector.refresh === undefined || !STALE.has(error.code)) throw error;
            const fresh = storable(await this.#inTime(async () => connector.refresh?.(structuredClone(ref)), signal));
            // Named even if it does not open now: the old one is stale for certain.
            const refreshed = { ...description, ref: fresh };
            const opened = await this.#openAt(connector, fresh, signal).catch((reason: unknown) => {
                throw new RefreshedButFailed(refreshed, connectorError(reason));
            });
            return { ...opened, refreshed };
        }
    }

    async #openAt(connector: Connector, ref: unknown, signal: AbortSignal): Promise<OpenedSource> {
        const open = async (): Promise<ConnectorFile> => {
            // The connector's own to change; the job's record is not.
            const file = await connector.open(structuredClone(ref), { offset: 0, signal });
            // Errors reach whoever reads; before the reading begins, or when nobody will, no one else would listen.
            if (file?.stream instanceof Readable) file.stream.on("error", () => {});
            return file;
        };
        const opened = await this.#inTime(open, signal, (late) => late?.stream?.destroy?.());
        const { stream, size, mimetype, filename } = opened ?? {};
        if (stream === undefined || typeof stream[Symbol.asyncIterator] !== "function")
            throw new MediaError("SOURCE_UNAVAILABLE", { detail: "the connector gave no stream" });
        return {
            stream: new ConnectorStream(stream, this.#limits.idleMs, signal),
            size: Number.isSafeInteger(size) && Number(size) >= 0 ? size : undefined,
            mimetype: typeof mimetype === "string" ? mimetype : undefined,
            filename: typeof filename === "string" ? filename : undefined,
        };
    }

    /** What a connector gives after the limit or the abort is let go. */
    async #inTime<T>(ask: () => Promise<T>, signal: AbortSignal, letGo: (late: T) => unknown = () => {}): Promise<T> {
        signal.throwIfAborted();
        const reason = () => new MediaError("SOURCE_TIMEOUT", { detail: "the connector did not answer" });
        const abort = new LinkedAbort([signal], { ms: this.#limits.headersMs, reason });
        const answer = Promise.resolve().then(ask);
        try {
            return await Promise.race([answer, abort.aborted()]);
        } catch (error) {
            if (abort.signal.aborted) answer.then(letGo, () => {});
            throw connectorError(error);
        } finally {
            abort.release();
        }
    }
}

/** A try that failed although the reference was refreshed: the next one starts with the fresh one. */
export class RefreshedButFailed extends Error {
    readonly refreshed: ConnectorDescription;

    constructor(refreshed: ConnectorDescription, cause: MediaError) {
        super(cause.message, { cause });
        this.refreshed = refreshed;
    }
}

/** The reference as the journal will give it back, or SOURCE_UNAVAILABLE. */
function storable(ref: unknown): unknown {
    let text: string | undefined;
    try {
        text = JSON.stringify(ref);
    } catch (cause) {
        throw new MediaError("SOURCE_UNAVAILABLE", { cause, detail: "the refreshed reference is no JSON" });
    }
    if (text === undefined || Buffer.byteLength(text) > MAX_REF_BYTES)
        throw new MediaError("SOURCE_UNAVAILABLE", { detail: "the refreshed reference cannot be journaled" });
    return JSON.parse(text) as unknown;
}
