import { Readable } from "node:stream";
import PQueue from "p-queue";
import { MediaError } from "../errors.ts";
import { LinkedAbort } from "../linked-abort.ts";
import type { Logger } from "../logger.ts";
import { loggable } from "../redact.ts";
import type { SourceGate } from "../uploads/source-gate.ts";
import { sourceError } from "../uploads/sources/http.ts";
import type { OpenedSources } from "../uploads/sources/opened.ts";
import { PeekedStream } from "../uploads/sources/peeked.ts";
import type { OpenedSource, SourceDescription } from "../uploads/sources/source.ts";
import { type Describe, type DescribedMedia, describedInfo, type Finding } from "./finding.ts";
import type { MediaSource } from "./message.ts";

/**
 * Looks at a file before its message is journaled, for networks whose messages do not say what they carry: opens the
 * source, takes from its headers what it says of itself, lets the embedder's `describe` look at the first bytes, and
 * leaves the open stream for the transfer, so that probe and transfer are one connection.
 *
 * To its source a probe is an opening like any other: it needs a place and its share of the rate, and its failure is the
 * source's. The place goes with the stream: to the transfer, which does not count again, or back where the stream ends
 * before. Where there is none, the message is not probed.
 *
 * It may take `probeMs` and no longer. When it is late or fails, the message goes out with what is known: nothing here
 * ever rejects, and the transfer meets whatever is wrong with the source by itself.
 */
export interface ProbeParts {
    readonly open: (source: SourceDescription, signal: AbortSignal) => Promise<OpenedSource>;
    readonly gate: SourceGate;
    /** Told when a place at a source is given back that no transfer has had. */
    readonly onPlaceFree: () => void;
    readonly opened: OpenedSources;
    readonly probeMs: number;
    readonly describe: Describe | undefined;
    readonly logger: Logger;
    readonly closing: AbortSignal;
}

export interface Probed {
    readonly found: Finding;
    /** Where the file is found from now on. */
    readonly source: Opened;
    /** Leaves the open stream for this job's transfer. */
    keepFor(jobId: string): void;
    /** Closes it. */
    letGo(): void;
}

/** What is opened to be read; the rest is handed over. */
type Opened = Extract<SourceDescription, MediaSource>;

/** Probes at once, and streams that may wait for their transfer. */
export const MAX_PROBED = 16;
/** What `describe` gets to see at most. */
const HEAD_BYTES = 64 * 1024;

export class Probe {
    readonly #parts: ProbeParts;
    readonly #places = new PQueue({ concurrency: MAX_PROBED });

    constructor(parts: ProbeParts) {
        this.#parts = parts;
    }

    /** For a job that never came into the journal. */
    discard(jobId: string): void {
        this.#parts.opened.drop(jobId);
    }

    /** Probes one file; undefined where that gave nothing. */
    async one(source: MediaSource): Promise<Probed | undefined> {
        if (source.kind === "buffer" || source.kind === "stream" || !this.#parts.gate.mayAsk(source)) return undefined;
        const reason = () => new MediaError("SOURCE_TIMEOUT", { detail: "the probe was too late" });
        const limit = new LinkedAbort([this.#parts.closing], { ms: this.#parts.probeMs, reason });
        // Ends the stream, which lives on after the limit.
        const life = new AbortController();
        let isOpen = false;
        const probing = this.#places.add(() => this.#look(source, life, limit, () => (isOpen = true)));
        try {
            // From the opening on, it ends by itself soon after the limit, with what it has found by then.
            return await Promise.race([probing, limit.aborted().catch((late) => (isOpen ? probing : fail(late)))]);
        } catch (error) {
            life.abort(error);
            // What comes after all is let go.
            probing.then((late) => late?.letGo()).catch(() => {});
            this.#parts.logger.debug("A file could not be probed before its message was sent", {
                error: loggable(error),
            });
            return undefined;
        } finally {
            limit.release();
        }
    }

    async #look(
        source: SourceDescription,
        life: AbortController,
        limit: LinkedAbort,
        onOpen: () => void,
    ): Promise<Probed | undefined> {
        limit.signal.throwIfAborted();
        const { gate } = this.#parts;
        const place = gate.enterAhead(source);
        if (place === undefined) return undefined;
        let giveBack = place;
        let isOver = false;
        const end = (): void => {
            isOver = true;
            if (giveBack()) this.#parts.onPlaceFree();
        };
        life.signal.addEventListener("abort", end, { once: true });
        const opened = await this.#parts.open(source, life.signal).catch((error: unknown) => {
            // That a probe was given up says nothing of the source, which has longer for a transfer.
            if (!limit.signal.aborted) gate.failed({ source }, sourceError(error, life.signal));
            throw error;
        });
        if (opened.stream instanceof Readable) opened.stream.once("close", end);
        onOpen();
        const { mimetype, size, filename, refreshed } = opened;
        let { stream } = opened;
        const letGo = (): void => {
            stream.destroy();
            life.abort();
        };
        const { describe } = this.#parts;
        let info: DescribedMedia = {};
        if (describe !== undefined) {
            const peeked = new PeekedStream(stream);
            stream = peeked;
            const head = await peeked.head(HEAD_BYTES, limit.signal);
            info = await this.#describe(() => describe(head, { mimetype, size, filename }), limit);
        }
        return {
            found: { mimetype, size, filename, info },
            source: (refreshed ?? source) as Opened,
            keepFor: (jobId) => {
                const drop = (): void => this.#parts.opened.drop(jobId);
                if (!isOver) giveBack = gate.keepFor({ id: jobId, source }, place, drop);
                this.#parts.opened.keep(jobId, { ...opened, stream }, life);
            },
            letGo,
        };
    }

    /** The embedder's code: it may fail, and may be late, without costing what else was found. */
    async #describe(ask: () => Promise<unknown>, limit: LinkedAbort): Promise<DescribedMedia> {
        try {
            return describedInfo(await Promise.race([Promise.resolve().then(ask), limit.aborted()]));
        } catch (error) {
            this.#parts.logger.warn("describe() failed; the message goes out without what it would have said", {
                error: loggable(error),
            });
            return {};
        }
    }
}

function fail(error: unknown): never {
    throw error;
}
