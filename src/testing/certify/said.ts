import { type Deed, isDeed, type Planned, planned } from "./deeds.ts";
import { isJournaled, mayRefuse } from "./evidence.ts";
import type { Journaled } from "./journal.ts";
import type { End, Lived } from "./life.ts";
import type { PlannedMessage } from "./messages.ts";
import type { ExpectedDeed } from "./sequels.ts";
import type { Expected } from "./verdict.ts";

/** What a job may be once `cancel()` has resolved; *unknown* where there was none to cancel. */
const CANCELLED: ReadonlySet<string> = new Set(["cancelled", "done", "unknown"]);

/** What the processes of an episode were told to say and do, and what is known of its end. */
export class Said {
    readonly #seed: number;
    readonly #connectorFiles: number | undefined;
    /** By their numbers. */
    readonly #all: Planned[] = [];
    /** Whose end was told, or that a dead process had journaled. */
    readonly #certain = new Set<string>();
    readonly #told = new Set<string>();
    /** What came of those that have an end. */
    readonly #ends = new Map<string, End>();

    constructor(seed: number, connectorFiles: number | undefined) {
        this.#seed = seed;
        this.#connectorFiles = connectorFiles;
    }

    get all(): readonly Planned[] {
        return this.#all;
    }

    get messages(): PlannedMessage[] {
        return this.#all.filter((item): item is PlannedMessage => !isDeed(item));
    }

    get deeds(): Deed[] {
        return this.#all.filter(isDeed);
    }

    /** What nobody has heard of yet. */
    more(count: number): Planned[] {
        return Array.from({ length: count }, () => {
            const next = planned(this.#seed, this.#all.length, this.#connectorFiles);
            this.#all.push(next);
            return next;
        });
    }

    /** What is told once more, because its end was not heard. */
    again(): Planned[] {
        return this.#all.filter(({ id, once }) => !once && !this.#told.has(id));
    }

    /** The same in the end: a message's first result is given again; of what was done to it nobody tells any more. */
    atLast(): Planned[] {
        return this.#all.filter((item) => !item.once && !(isDeed(item) && this.#told.has(item.id)));
    }

    /** Writes down what a process has told, and had journaled. Returns what it had no reason to say. */
    hear({ told, ends }: Pick<Lived, "told" | "ends">, journal: Journaled, earlier: Journaled): string[] {
        for (const id of journal.messages.keys()) this.#certain.add(id);
        for (const deed of this.deeds) if (isJournaled(deed, journal, earlier)) this.#certain.add(deed.id);
        for (const [id, word] of told) {
            if (word === "said" || word === "calling") continue;
            this.#told.add(id);
            this.#certain.add(id);
        }
        for (const [id, end] of ends) this.#ends.set(id, end);
        return [...ends].flatMap(([id, { word, what }]) => {
            const item = this.#all[Number(id.slice(1))];
            if (item === undefined) return [];
            if (word === "refused" && !this.#mayRefuse(item, what)) return [`the call of ${id} rejected: ${what}`];
            const isOpen = isDeed(item) && item.does === "cancel" && word === "called" && !CANCELLED.has(what);
            return isOpen ? [`the call of ${id} resolved, and its job was ${what}`] : [];
        });
    }

    /** @param newest Ends that are not written down yet. */
    expected(newest: ReadonlyMap<string, End>): { readonly messages: Expected[]; readonly deeds: ExpectedDeed[] } {
        const isCertain = ({ id, once }: Planned): boolean => !once || this.#certain.has(id) || newest.has(id);
        const deeds = this.deeds.map((deed): ExpectedDeed => {
            const { what, at } = newest.get(deed.id) ?? this.#ends.get(deed.id) ?? {};
            return { deed, isCertain: isCertain(deed), end: what, endedAt: at };
        });
        const messages = this.messages.map((message): Expected => {
            const own = deeds.filter(({ deed }) => "of" in deed && deed.of.id === message.id);
            return { planned: message, isCertain: isCertain(message), deeds: own };
        });
        return { messages, deeds };
    }

    #mayRefuse(item: Planned, code: string): boolean {
        const isTakenBack = (id: string): boolean =>
            this.deeds.some((deed) => deed.does === "redact" && deed.of.id === id);
        if (!isDeed(item)) return code === "CANCELLED" && isTakenBack(item.id);
        if (item.does === "picture") return false;
        return mayRefuse(item, code, item.of.once && !this.#certain.has(item.of.id), isTakenBack(item.of.id));
    }
}
