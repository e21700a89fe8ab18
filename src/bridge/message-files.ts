import { randomUUID } from "node:crypto";
import { addAbortSignal, Readable } from "node:stream";
import type { Logger } from "../logger.ts";
import { loggable } from "../redact.ts";
import type { Store, Write } from "../store/store.ts";
import { counted, type Promised } from "../uploads/counted.ts";
import type { Job } from "../uploads/job.ts";
import { connectorOf } from "../uploads/sources/connector.ts";
import { sourceError } from "../uploads/sources/http.ts";
import type { Connector, SourceDescription } from "../uploads/sources/source.ts";
import type { Spool } from "../uploads/sources/spool.ts";
import type { Lookup } from "./dedupe/lookup.ts";
import { type SharedFile, sharedKeyOf } from "./dedupe/shared-file.ts";
import { describedFile } from "./event-content.ts";
import { withFinding } from "./finding.ts";
import type { MediaItem, MediaSource, RemoteMessage } from "./message.ts";
import { isPublicUrl } from "./message-check.ts";
import type { Probe } from "./probe.ts";
import { promisedFamily } from "./promised-family.ts";
import type { SharedItem } from "./records.ts";
import { UnjournaledFiles } from "./unjournaled-files.ts";

/** What is to be had before a message is journaled: its files that are there already, and a job for each of the others. */
export interface MessageFilesParts {
    readonly store: Store;
    readonly spool: Spool;
    readonly lookup: Lookup;
    readonly probe: Probe;
    readonly connectors: Readonly<Record<string, Connector>>;
    readonly logger: Logger;
    /** Aborts when the component closes: a stream that is being spooled is then let go. */
    readonly closing: AbortSignal;
    /** Told about a message's jobs before they are journaled: they may never be. */
    readonly onNewJob: (job: Job) => void;
    readonly uploaderOf: (sender: string) => string;
    readonly hasCrypto: (sender: string) => boolean;
}

/** What is known of a job before its source is. */
type KnownOfJob = Pick<
    Job,
    | "uploader"
    | "backfill"
    | "messageId"
    | "roomId"
    | "at"
    | "mimetype"
    | "family"
    | "size"
    | "filename"
    | "publicUrl"
    | "sha256"
    | "dedupe"
    | "isGivenOut"
>;

/** A message's files: those that need a job, and those that are there already. */
export interface Files {
    readonly jobs: readonly Job[];
    readonly shared: readonly SharedItem[];
    /** What notes that those are used; to be called in the step that hands it to the store. */
    readonly useWrites: () => Write[];
    /** The message's content, with what a probe has found. */
    readonly content: RemoteMessage["content"];
    /** Whether the sender's client has encryption, as it was when it was decided whether files may be shared. */
    readonly hasCrypto: boolean;
}

interface Sharing {
    readonly dedupe?: string | undefined;
    readonly file?: SharedFile | undefined;
}

export class MessageFiles {
    readonly #parts: MessageFilesParts;
    readonly #unjournaled: UnjournaledFiles;

    constructor(parts: MessageFilesParts) {
        this.#parts = parts;
        this.#unjournaled = new UnjournaledFiles(parts);
    }

    /** A job for each of a message's files, apart from those that are there already; and what a probe has found. */
    async of(message: RemoteMessage): Promise<Files> {
        const { media = [], eventType = "m.room.message" } = message;
        const jobs: Job[] = [];
        const shared: SharedItem[] = [];
        const used: SharedFile[] = [];
        const uploader = this.#parts.uploaderOf(message.sender);
        const hasCrypto = this.#parts.hasCrypto(message.sender);
        const found = this.#sharing(message, uploader, hasCrypto);
        // A sticker that is sent again and again costs no more turns of the loop than a text.
        const sharing = found instanceof Promise ? await found : found;
        // What is there already is not opened.
        const isProbed = ({ probeHeaders }: MediaItem, index: number): boolean =>
            probeHeaders === true && sharing[index]?.file === undefined;
        const probe = async (item: MediaItem, index: number) =>
            isProbed(item, index) ? this.#parts.probe.one(item.source) : undefined;
        const probes = media.some(isProbed) ? await Promise.all(media.map(probe)) : [];
        const unused = new Set(probes);
        let { content } = message;
        try {
            for (const [index, item] of media.entries()) {
                const { dedupe, file } = sharing[index] ?? {};
                if (file !== undefined) {
                    if (item.source.kind === "stream") item.source.stream.destroy();
                    const { contentUri, size, leader = "" } = file;
                    shared.push({ index, at: item.at, contentUri, size, jobId: leader });
                    used.push(file);
                    continue;
                }
                const { at, source, probeHeaders, dedupeKey: _, transformVersion: __, ...given } = item;
                const probed = probes[index];
                if (probeHeaders === true)
                    content = withFinding(content, eventType, at, { ...probed?.found, ...given });
                const known = {
                    ...describedFile(content, at),
                    family: promisedFamily(content, eventType, at),
                    ...given,
                    publicUrl: given.publicUrl ?? this.#publicUrlOf(source),
                    uploader,
                    backfill: message.backfill ?? false,
                    messageId: message.id,
                    roomId: message.roomId,
                    at,
                    dedupe,
                };
                const job = await this.newJob(probed?.source ?? source, known);
                jobs.push(job);
                unused.delete(probed);
                probed?.keepFor(job.id);
                this.#parts.onNewJob(job);
            }
            const useWrites = () => used.flatMap((file) => this.#parts.lookup.useWrites(file));
            return { jobs, shared, useWrites, content, hasCrypto };
        } catch (error) {
            for (const probed of unused) probed?.letGo();
            await this.discard(jobs);
            throw error;
        }
    }

    /**
     * The shared file of each item, and that file where it is there already. What is encrypted has a key of its own, so
     * nothing is shared where a message is, or may turn out to be. At once where memory knows all of them.
     */
    #sharing(
        { media = [], encrypted }: RemoteMessage,
        uploader: string,
        hasCrypto: boolean,
    ): readonly Sharing[] | Promise<readonly Sharing[]> {
        const { lookup } = this.#parts;
        const mayShare = encrypted === false || (encrypted !== true && !hasCrypto);
        const known = media.map(({ dedupeKey, transformVersion }): Sharing => {
            if (dedupeKey === undefined || !mayShare) return {};
            const dedupe = sharedKeyOf(uploader, dedupeKey, transformVersion);
            return { dedupe, file: lookup.atHand(dedupe) };
        });
        if (known.every(({ dedupe, file }) => dedupe === undefined || file !== undefined)) return known;
        return Promise.all(
            known.map(
                async ({ dedupe, file }): Promise<Sharing> => ({
                    dedupe,
                    file: dedupe === undefined ? undefined : (file ?? (await lookup.uploaded(dedupe))),
                }),
            ),
        );
    }

    /** What the file's connector says of it: other people's code, without which the message is as good. */
    #publicUrlOf(source: MediaSource): string | undefined {
        if (source.kind !== "connector") return undefined;
        const { connectors, logger } = this.#parts;
        const { connector: name, ref } = source;
        try {
            const url: unknown = connectorOf(connectors, name)?.publicUrl?.(structuredClone(ref));
            if (url === undefined || isPublicUrl(url)) return url;
            logger.warn("A connector's public link is none that a room may be shown", { connector: name });
        } catch (error) {
            logger.warn("A connector's public link could not be had", { connector: name, error: loggable(error) });
        }
        return undefined;
    }

    /** A job for one file: its bytes are spooled where the caller has handed them over. */
    async newJob(source: MediaSource, known: KnownOfJob): Promise<Job> {
        const id = randomUUID();
        const kept = await this.#keep(id, source, known);
        const size = kept.size ?? known.size;
        return { ...known, id, state: "unreserved", size, source: kept.source, createdAt: Date.now(), attempts: 0 };
    }

    /** Removes what was spooled for jobs that never came into the journal. */
    async discard(jobs: readonly Job[]): Promise<void> {
        for (const { id } of jobs) this.#parts.probe.discard(id);
        await this.#unjournaled.discard(jobs.flatMap(({ source }) => (source.kind === "spool" ? [source.name] : [])));
    }

    async #keep(
        name: string,
        source: MediaSource,
        { sha256 }: Promised,
    ): Promise<{ source: SourceDescription; size?: number }> {
        if (source.kind !== "buffer" && source.kind !== "stream") return { source };
        const body = source.kind === "buffer" ? Readable.from([source.data]) : source.stream;
        addAbortSignal(this.#parts.closing, body);
        // Errors reach whoever reads; before the reading begins nobody else would listen.
        body.on("error", () => {});
        const unlimited = { size: undefined, maxBytes: Number.POSITIVE_INFINITY };
        // Bytes that are wrong now stay wrong, and a stream that breaks is no disk in trouble: whoever gives them hears of it.
        const explain = (error: unknown) => sourceError(error, this.#parts.closing);
        const bytes = counted(inBytes(body), unlimited, { sha256 }, { explain });
        const size = await this.#parts.spool.write(
            name,
            source.kind === "buffer" && sha256 === undefined ? body : bytes,
        );
        return { source: { kind: "spool", name }, size };
    }
}

/** A stream of text gives strings. */
async function* inBytes(body: AsyncIterable<Uint8Array | string>): AsyncGenerator<Uint8Array> {
    for await (const chunk of body) yield typeof chunk === "string" ? Buffer.from(chunk) : chunk;
}
