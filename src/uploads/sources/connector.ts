import { Readable } from "node:stream";
import { type ErrorCode, MediaError } from "../../errors.ts";
import type { Connector, OpenedSource, Source, SourceDescription } from "./source.ts";

type ConnectorDescription = Extract<SourceDescription, { kind: "connector" }>;

/** Errors after which a fresh reference may help: the link has run out. */
const STALE = new Set<ErrorCode>(["SOURCE_NOT_FOUND", "SOURCE_FORBIDDEN"]);

/** Opens files through the embedder's connectors, asking once per try for a fresh reference where the old one is stale. */
export class ConnectorSource implements Source<ConnectorDescription> {
    readonly #connectors: Readonly<Record<string, Connector>>;

    constructor(connectors: Readonly<Record<string, Connector>>) {
        this.#connectors = connectors;
    }

    async open({ connector: name, ref }: ConnectorDescription, signal: AbortSignal): Promise<OpenedSource> {
        const connector = Object.hasOwn(this.#connectors, name) ? this.#connectors[name] : undefined;
        if (connector === undefined) throw new MediaError("CONNECTOR_UNKNOWN", { detail: name });
        try {
            return await openAt(connector, ref, signal);
        } catch (error) {
            const stale = error instanceof MediaError && STALE.has(error.code);
            if (connector.refresh === undefined || !stale) throw error;
            return openAt(connector, await connector.refresh(ref).catch(unavailable), signal);
        }
    }
}

async function openAt(connector: Connector, ref: unknown, signal: AbortSignal): Promise<OpenedSource> {
    const opened = await connector.open(ref, { offset: 0, signal }).catch(unavailable);
    // Errors reach whoever reads; before the reading begins nobody else would listen.
    if (opened.stream instanceof Readable) opened.stream.on("error", () => {});
    return opened;
}

/** A connector may throw whatever its network's library throws; a MediaError of its own choosing is kept. */
function unavailable(cause: unknown): never {
    throw cause instanceof MediaError ? cause : new MediaError("SOURCE_UNAVAILABLE", { cause });
}
