import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CertifiableConnector, StoreModule } from "./candidates.ts";
import { Child } from "./child.ts";
import { STEPS } from "./coverage.ts";
import type { Life } from "./driver.ts";
import { isKnown, type Journaled, NOTHING, readJournal } from "./journal.ts";
import { type End, type Lived, liveInPeace, type Living, liveUntil } from "./life.ts";
import { isDeed, type Planned } from "./deeds.ts";
import { leftBehind } from "./left-behind.ts";
import { bytesOf, PICTURED, type PlannedFile, roomsOf } from "./messages.ts";
import { before, unjournaledLinks, uploadedAfterCancel, uploadedAgain } from "./needless.ts";
import { wrongPictures } from "./pictures.ts";
import { Random } from "./random.ts";
import { Recorder } from "./recorder/recorder.ts";
import { describe, type Moment, nextMoment, wantsTrouble } from "./schedule.ts";
import { Said } from "./said.ts";
import type { Death } from "./step.ts";
import { readBefore } from "./standstill.ts";
import { verdict } from "./verdict.ts";
import { workOf } from "./work-left.ts";

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
const MAX_ROUNDS = 3;
/** Two answers that were given in such a time can be acted upon in any order, also where both had been read. */
const MARGIN_MS = 50;
/** In peace: what the last one still leaves to be said is missed. */
const LAST_LIVES = 3;
/** Of a hundred lives, those in which the network's files cannot be had for a while. */
const TROUBLED_LIVES = 20;
/** Requests for files that come through before that, and that do not. */
const BEFORE_TROUBLE = 5;
const TROUBLE = 4;

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
    readonly #said: Said;
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
        this.#said = new Said(options.seed, options.connector?.files.length);
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
            messages: this.#said.messages.length,
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
            const fresh = this.#said.more(1 + this.#random.below(NEW_MESSAGES));
            const again = this.#said.again();
            const isReadable = this.#options.store === undefined;
            const moment = nextMoment(this.#random, fresh.length, isReadable);
            this.#trouble(recorder, moment);
            // Messages are said twice at times; what is done to them once.
            const also = fresh.filter((item) => !isDeed(item) || !again.includes(item));
            await this.#live(recorder, [...again, ...also], moment);
        }
        this.#options.signal.throwIfAborted();
        if (this.#violations.length === 0) await this.#last(recorder);
    }

    /** Drawn for each life, so that the schedule does not depend on what comes of it. */
    #trouble({ network }: Recorder, moment: Moment): void {
        const isTroubled = this.#random.below(100) < TROUBLED_LIVES || wantsTrouble(moment);
        const [after, count] = [this.#random.below(BEFORE_TROUBLE), 1 + this.#random.below(TROUBLE)];
        network.fail(after, isTroubled ? count : 0);
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

    #living(recorder: Recorder, said: readonly Planned[]): Living {
        const isForWork = workOf(this.#journal, said.filter(isDeed));
        return { child: this.#take(), life: this.#life, recorder, isForWork, say: numbers(said) };
    }

    async #live(recorder: Recorder, said: readonly Planned[], moment: Moment): Promise<void> {
        const began = before(recorder);
        const requestsBefore = recorder.requests.length;
        const known = new Set([...recorder.media.addresses].map(({ uri }) => uri));
        let rounds = 1;
        const more = () => (++rounds > MAX_ROUNDS ? undefined : numbers(this.#said.more(NEW_MESSAGES)));
        const living = this.#living(recorder, said);
        const lived = await liveUntil(living, moment, (strike) => (this.#strike = strike), more);
        this.#options.signal.throwIfAborted();
        await recorder.hangUp();

        this.#judgeRecovery(living, lived);
        this.#violations.push(...lived.violations);
        const earlier = this.#journal;
        const journal = await this.#readJournal();
        if (journal === undefined) return;
        this.#journal = journal;
        this.#violations.push(...uploadedAgain(recorder, began, earlier, this.#said.all));
        const requests = recorder.requests.slice(requestsBefore);
        this.#violations.push(...unjournaledLinks(requests, journal));
        for (const finding of this.#journal.damage) this.#violations.push(`the store reported damage: ${finding}`);
        this.#violations.push(...this.#said.hear(lived, journal, earlier));
        const created = [...recorder.media.addresses].filter(({ uri }) => !known.has(uri));
        const heardUntil = lastHeard(recorder, roomsOf(this.#options.seed), this.#journal);
        const heardBefore = Math.min(heardUntil - MARGIN_MS, readBefore(heardUntil, lived.pulses));
        for (const { uri, answeredAt = Number.POSITIVE_INFINITY } of created)
            if (!isKnown(this.#journal, uri) && answeredAt > heardBefore) this.#unheard.add(uri);
        if (!lived.isKilled) return;
        this.#kills.push(describe(moment));
        const death: Death = {
            recorder,
            requests,
            since: began.at,
            diedAt: lived.endedAt,
            isClosing: lived.isClosing,
            journal: this.#journal,
            earlier,
            told: lived.told,
            planned: new Map(this.#said.messages.map((message) => [message.id, message])),
            deeds: new Map(this.#said.deeds.map((deed) => [deed.id, deed])),
            created: created.map(({ uri }) => uri),
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
        recorder.network.fail(0, 0);
        let [lives, rest] = [1, await this.#liveInPeace(recorder)];
        for (; rest === "cut off" && lives < LAST_LIVES; lives++) rest = await this.#liveInPeace(recorder);
        if (rest === "unreadable") return;
        this.#violations.push(...this.#verdict(recorder));
        this.#violations.push(...(await leftBehind(recorder, this.#journal, this.#dataDir, this.#unheard)));
        this.#violations.push(...uploadedAfterCancel(recorder, this.#said.expected(new Map()).deeds, this.#journal));
    }

    /**
     * One life. Its end may have cut off a room's line, as before an edit that corrects what another one has just said: the
     * next life says the rest.
     */
    async #liveInPeace(recorder: Recorder): Promise<"at rest" | "cut off" | "unreadable"> {
        const living = this.#living(recorder, this.#said.atLast());
        const isWell = (heard: Pick<Lived, "ends">): boolean => this.#verdict(recorder, heard.ends).length === 0;
        const earlier = this.#journal;
        const began = before(recorder);
        const lived = await liveInPeace(living, this.#options.quietMs, isWell);
        this.#options.signal.throwIfAborted();
        this.#judgeRecovery(living, lived);
        this.#violations.push(...lived.violations);
        // Nothing may have come twice while it closed.
        const journal = await this.#readJournal();
        if (journal === undefined) return "unreadable";
        this.#violations.push(...uploadedAgain(recorder, began, earlier, this.#said.all));
        this.#violations.push(...this.#said.hear(lived, journal, earlier));
        this.#journal = journal;
        const isLeft =
            journal.marked.size > 0 || [...journal.messages.values()].some(({ state }) => state === "queued");
        return isLeft ? "cut off" : "at rest";
    }

    /** @param newest Ends that are not written down yet. */
    #verdict(recorder: Recorder, newest: ReadonlyMap<string, End> = new Map()): string[] {
        const { messages, deeds } = this.#said.expected(newest);
        const { connector, seed } = this.#options;
        const bytes = ({ kind, name }: PlannedFile): Buffer =>
            kind === "connector"
                ? Buffer.from(connector?.files[Number(name.split("-")[1])]?.bytes ?? [])
                : bytesOf(name);
        return [
            ...verdict(recorder, roomsOf(seed), messages, bytes),
            ...wrongPictures(recorder, PICTURED, deeds, bytes),
        ];
    }
}

function networkDirOf(dataDir: string): string {
    return `${dataDir}-network`;
}

/** In the order in which they were first said. */
function numbers(said: readonly Planned[]): number[] {
    return said.map(({ number }) => number).toSorted((one, other) => one - other);
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
