import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CertifiableConnector, StoreModule } from "./candidates.ts";
import { Child } from "./child.ts";
import { isKnown, STEPS } from "./coverage.ts";
import type { Life } from "./driver.ts";
import { type Journaled, NOTHING, readJournal, workOf } from "./journal.ts";
import { isFinal, type Job } from "../../uploads/job.ts";
import { type Lived, liveInPeace, type Living, liveUntil } from "./life.ts";
import { bytesOf, plan, type PlannedMessage, roomsOf } from "./messages.ts";
import { Random } from "./random.ts";
import { Recorder } from "./recorder/recorder.ts";
import { describe, type Moment, nextMoment } from "./schedule.ts";
import { readBefore } from "./standstill.ts";
import { type Expected, verdict } from "./verdict.ts";

/**
 * One world, from its first message to its verdict: lives of the component that are killed one after the other, each
 * with something new to say, and a last one that is left in peace.
 */
export interface EpisodeOptions {
    readonly seed: number;
    /** Lives that are to be killed. */
    readonly lives: number;
    /** From `start()` to the first request, where there is work. */
    readonly recoveryMs: number;
    /** For the last life to bring everything to its end. */
    readonly quietMs: number;
    readonly storeUrl: string | undefined;
    readonly store: StoreModule | undefined;
    readonly connectorUrl: string | undefined;
    readonly connector: CertifiableConnector | undefined;
    readonly signal: AbortSignal;
}

export interface Episode {
    readonly violations: readonly string[];
    /** What each kill waited for. */
    readonly kills: readonly string[];
    /** Names of steps that were hit, once for each kill: `reserve before`. */
    readonly hits: readonly string[];
    /** Job states at death. */
    readonly states: readonly string[];
    readonly recoveries: readonly number[];
    readonly messages: number;
}

const NEW_MESSAGES = 9;
/** A moment that does not come however much is said is given up. */
const MAX_ROUNDS = 4;
/** Two answers that were given in such a time can be acted upon in any order, also where both had been read. */
const MARGIN_MS = 50;

export async function runEpisode(options: EpisodeOptions): Promise<Episode> {
    const dataDir = await mkdtemp(join(tmpdir(), "certify-"));
    const world = new World(options, dataDir);
    try {
        await world.run();
        return world.episode;
    } finally {
        await world.close();
        for (const folder of [dataDir, networkDirOf(dataDir)]) await rm(folder, { recursive: true, force: true });
    }
}

class World {
    readonly #options: EpisodeOptions;
    readonly #dataDir: string;
    readonly #random: Random;
    readonly #planned = new Map<string, PlannedMessage>();
    /** Messages whose acceptance was told, or that a dead process had journaled. */
    readonly #certain = new Set<string>();
    readonly #told = new Set<string>();
    /** Addresses that no journal knows because their process was killed too soon. */
    readonly #unheard = new Set<string>();
    readonly #violations: string[] = [];
    readonly #kills: string[] = [];
    readonly #hits: string[] = [];
    readonly #states: string[] = [];
    readonly #recoveries: number[] = [];
    readonly #encryption: Life["encryption"];
    #journal: Journaled = NOTHING;
    #strike: Parameters<typeof Recorder.start>[0] = () => false;
    #recorder: Recorder | undefined;
    /** The process that lives, or has lived. */
    #child: Child | undefined;
    #next = new Child();
    readonly #kill = (): void => {
        this.#child?.kill();
        this.#next.kill();
    };

    constructor(options: EpisodeOptions, dataDir: string) {
        this.#options = options;
        this.#dataDir = dataDir;
        this.#random = new Random(options.seed);
        this.#encryption = this.#random.next() < 0.5 ? "spool" : "two-pass";
    }

    /** Whatever part of it breaks is a finding; rejects for the signal alone. */
    async run(): Promise<void> {
        const { signal } = this.#options;
        signal.addEventListener("abort", this.#kill);
        try {
            await this.#run();
        } catch (error) {
            signal.throwIfAborted();
            this.#violations.push(`it could not be judged any more: ${String(error)}`);
        }
    }

    get episode(): Episode {
        return {
            violations: this.#violations,
            kills: this.#kills,
            hits: this.#hits,
            states: this.#states,
            recoveries: this.#recoveries,
            messages: this.#planned.size,
        };
    }

    async close(): Promise<void> {
        this.#options.signal.removeEventListener("abort", this.#kill);
        this.#kill();
        await Promise.all([this.#child?.ended, this.#next.ended]);
        await this.#recorder?.close();
    }

    async #run(): Promise<void> {
        const recorder = await Recorder.start(
            (kind, phase) => this.#strike(kind, phase),
            new Random(this.#options.seed + 1),
        );
        this.#recorder = recorder;
        for (let life = 0; life < this.#options.lives && this.#violations.length === 0; life++) {
            this.#options.signal.throwIfAborted();
            const fresh = this.#fresh(1 + this.#random.below(NEW_MESSAGES));
            const again = [...this.#planned.values()].filter(({ id, once }) => !once && !this.#told.has(id));
            await this.#live(recorder, [...again, ...fresh], nextMoment(this.#random, fresh.length));
        }
        this.#options.signal.throwIfAborted();
        if (this.#violations.length === 0) await this.#last(recorder);
    }

    #fresh(count: number): PlannedMessage[] {
        return Array.from({ length: count }, () => {
            const { seed, connector } = this.#options;
            const message = plan(seed, this.#planned.size, connector?.files.length);
            this.#planned.set(message.id, message);
            return message;
        });
    }

    #take(): Child {
        const child = this.#next;
        this.#child = child;
        this.#next = new Child();
        return child;
    }

    get #life(): Life {
        const { seed, storeUrl: store, connectorUrl: connector } = this.#options;
        const url = this.#recorder?.url ?? "";
        const dataDir = this.#dataDir;
        const networkDir = networkDirOf(dataDir);
        return { url, dataDir, networkDir, seed, encryption: this.#encryption, store, connector };
    }

    #living(recorder: Recorder, messages: readonly PlannedMessage[]): Living {
        const isForWork = workOf(this.#journal);
        return { child: this.#take(), life: this.#life, recorder, isForWork, say: numbers(messages) };
    }

    async #live(recorder: Recorder, messages: readonly PlannedMessage[], moment: Moment): Promise<void> {
        const failuresBefore = recorder.failures;
        const before = new Set([...recorder.media.addresses].map(({ uri }) => uri));
        let rounds = 1;
        const more = () => (++rounds > MAX_ROUNDS ? undefined : numbers(this.#fresh(NEW_MESSAGES)));
        const refilledBefore = recorder.media.refilled.length;
        const living = this.#living(recorder, messages);
        const lived = await liveUntil(living, moment, (strike) => (this.#strike = strike), more);
        this.#options.signal.throwIfAborted();
        recorder.hangUp();

        this.#judgeRecovery(living, lived);
        this.#violations.push(...lived.violations);
        const earlier = this.#journal;
        const journal = await this.#readJournal();
        if (journal === undefined) return;
        this.#journal = journal;
        for (const uri of recorder.media.refilled.slice(refilledBefore))
            if ([...earlier.jobs.values()].some((job) => job.state === "done" && job.contentUri === uri))
                this.#violations.push(`${uri} was uploaded again, and its job was journaled as done`);
        for (const finding of this.#journal.damage) this.#violations.push(`the store reported damage: ${finding}`);
        for (const id of this.#journal.messages.keys()) this.#certain.add(id);
        for (const [id, word] of lived.told) if (word !== "said") this.#told.add(id);
        for (const id of this.#told) this.#certain.add(id);
        const created = [...recorder.media.addresses].filter(({ uri }) => !before.has(uri));
        const heardUntil = lastHeard(recorder, roomsOf(this.#options.seed), this.#journal);
        const heardBefore = Math.min(heardUntil - MARGIN_MS, readBefore(heardUntil, lived.pulses));
        for (const { uri, answeredAt = Number.POSITIVE_INFINITY } of created)
            if (!isKnown(this.#journal, uri) && answeredAt > heardBefore) this.#unheard.add(uri);
        if (!lived.isKilled) return;
        this.#kills.push(describe(moment));
        const { told } = lived;
        const planned = this.#planned;
        const death = {
            recorder,
            journal: this.#journal,
            earlier,
            told,
            planned,
            created: created.map(({ uri }) => uri),
            failuresBefore,
        };
        for (const { name, before, after } of STEPS) {
            if (before(death)) this.#hits.push(`${name} before`);
            if (after(death)) this.#hits.push(`${name} after`);
        }
        this.#states.push(...new Set([...this.#journal.jobs.values()].map(({ state }) => state)));
    }

    /** Undefined where that is a finding. */
    async #readJournal(): Promise<Journaled | undefined> {
        const { store, signal } = this.#options;
        try {
            return await readJournal(this.#dataDir, store, signal);
        } catch (error) {
            signal.throwIfAborted();
            this.#violations.push(`the store of a dead process cannot be read: ${String(error)}`);
            return undefined;
        }
    }

    /** @param lived Whoever found work has to have begun with it. */
    #judgeRecovery({ isForWork }: Living, { firstRequestMs, livedMs, slowness, stoodMs }: Lived): void {
        if (isForWork === undefined) return;
        if (firstRequestMs !== undefined) this.#recoveries.push(firstRequestMs);
        const took = firstRequestMs ?? livedMs;
        if (took >= this.#options.recoveryMs * slowness + stoodMs)
            this.#violations.push(`work was taken up only ${took} ms after start()`);
    }

    async #last(recorder: Recorder): Promise<void> {
        const again = [...this.#planned.values()].filter(({ once }) => !once);
        const living = this.#living(recorder, again);
        const isWell = (): boolean => this.#verdict(recorder).length === 0;
        const lived = await liveInPeace(living, this.#options.quietMs, isWell);
        this.#options.signal.throwIfAborted();
        this.#judgeRecovery(living, lived);
        this.#violations.push(...lived.violations);
        // Once more: nothing may have come twice while it closed.
        this.#violations.push(...this.#verdict(recorder), ...(await this.#leftBehind(recorder)));
    }

    #verdict(recorder: Recorder): string[] {
        const expected = [...this.#planned.values()].map(
            (planned): Expected => ({ planned, isCertain: !planned.once || this.#certain.has(planned.id) }),
        );
        const files = this.#options.connector?.files;
        return verdict(recorder, roomsOf(this.#options.seed), expected, ({ kind, name }) =>
            kind === "connector" ? Buffer.from(files?.[Number(name.split("-")[1])]?.bytes ?? []) : bytesOf(name),
        );
    }

    /** What is on disk and at the homeserver after the end, and is of no use to anybody. */
    async #leftBehind(recorder: Recorder): Promise<string[]> {
        const journal = await this.#readJournal();
        if (journal === undefined) return [];
        const found = journal.spooled.map((name) => {
            const job = journal.jobs.get(name.slice(0, 36));
            return `${name} was left in the spool by ${job === undefined ? "nobody known" : `a job that ${stands(job)}`}`;
        });
        for (const name of await readdir(this.#dataDir))
            if (name !== "journal" && name !== "spool") found.push(`${name} was left in the data folder`);
        for (const { uri, content, isForgotten } of recorder.media.addresses)
            if (content === undefined && !isForgotten && !this.#unheard.has(uri) && !isKnown(journal, uri))
                found.push(`${uri} is lost`);
        for (const job of journal.jobs.values())
            if (!isFinal(job.state)) found.push(`a job of ${job.messageId} still ${stands(job)}`);
        for (const { state, contentUri = "" } of journal.jobs.values())
            if (state === "done" && recorder.media.find(contentUri)?.content === undefined)
                found.push(`${contentUri} is journaled as done and has no content`);
        return found;
    }
}

function networkDirOf(dataDir: string): string {
    return `${dataDir}-network`;
}

function stands({ state, follows, notBefore, heldFor, error }: Job): string {
    const why = [
        follows === true && "behind another job",
        notBefore !== undefined && "waiting",
        heldFor !== undefined && "held",
        error !== undefined && `after ${error.code}`,
    ];
    return `is ${[state, ...why.filter((text) => text !== false)].join(", ")}`;
}

/** In the order in which they were first said. */
function numbers(messages: readonly PlannedMessage[]): number[] {
    return messages.map(({ number }) => number).toSorted((one, other) => one - other);
}

/**
 * When the newest of the answers was given that the dead process had heard and acted upon for certain: an event's, which
 * is journaled. What was answered well before that, with its loop gone round between them, it had heard too, and journaled before, for the
 * journal keeps order.
 */
function lastHeard({ rooms }: Recorder, names: readonly string[], { messages }: Journaled): number {
    const events = new Map(
        names.flatMap((room) => rooms.events(room).map((event) => [event.transactionId, event] as const)),
    );
    let last = 0;
    for (const { state, transactionId } of messages.values())
        if (state === "sent") last = Math.max(last, events.get(transactionId)?.origin_server_ts ?? 0);
    return last;
}
