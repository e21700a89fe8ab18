import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { OUTBOX, REVISE } from "../../src/bridge/records.ts";
import type { BridgeMedia, Logger } from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import { DAMAGES } from "../support/damage/damages.ts";
import { randomOf } from "../support/damage/random.ts";
import { isQuiet, openTenant, PRESIGNED, type Said } from "../support/damage/tenant.ts";
import { type PlainStorage, startStorage } from "../support/damage/storage.ts";
import { contentsOf, takenOf, unnamedOf } from "../support/damage/taken.ts";
import { judge, type Verdict } from "../support/damage/verdict.ts";
import { type Remote, startRemote } from "../support/remote.ts";
import { until } from "../support/until.ts";
import { openWorld, type World } from "../support/world.ts";

/** A run can be had again: `DAMAGE_SEED=… DAMAGE_RUNS=… DAMAGE_ONLY=… npx mocha test/fault/damaged-store.test.ts`. */
const SEED = whole("DAMAGE_SEED", 0) ?? Math.floor(Math.random() * 2 ** 31);
const RUNS = whole("DAMAGE_RUNS", 1) ?? 207;
const ONLY = process.env["DAMAGE_ONLY"];
if (ONLY !== undefined && !Object.hasOwn(DAMAGES, ONLY))
    throw new RangeError(`DAMAGE_ONLY=${ONLY} is none of: ${Object.keys(DAMAGES).join(", ")}`);
/** Bridges at once, on one homeserver. */
const AT_ONCE = 6;

function whole(name: string, least: number): number | undefined {
    const text = process.env[name];
    if (text === undefined) return undefined;
    if (!/^\d{1,10}$/.test(text) || Number(text) < least)
        throw new RangeError(`${name}=${text} is no whole number of at least ${least}`);
    return Number(text);
}

interface Outcome extends Verdict {
    readonly what: string;
    /** What the operator was told. */
    readonly named: readonly string[];
    /** What can be known of what was taken, and was not told. */
    readonly unnamed: readonly string[];
    /** Records of messages and jobs that were taken. */
    readonly taken: number;
    /** Jobs that did not come to a good end. */
    readonly failed?: readonly string[];
}

describe("a damaged journal", function () {
    this.timeout(1_500_000);
    const kinds = Object.keys(DAMAGES);
    let directory: string;
    let world: World;
    let remote: Remote;
    let storage: PlainStorage;
    beforeEach(async () => {
        directory = await mkdtemp(join(tmpdir(), "damaged-"));
        // Transactions are forgotten at once, as when the homeserver was restarted meanwhile.
        const createRateLimit = { perSecond: 10_000, burst: 10_000 };
        storage = await startStorage((userId) => userId.includes(PRESIGNED));
        world = await openWorld({ txnMemoryMs: 0, createRateLimit, presigned: storage.media });
        remote = await startRemote();
    });
    afterEach(async () => {
        await world.close();
        await remote.close();
        await storage.close();
        await rm(directory, { recursive: true, force: true });
    });

    /** Brings work into every state, damages its journal, starts again, and looks at what the rooms show then. */
    async function run(index: number, kind: string | undefined): Promise<Outcome> {
        const random = randomOf(SEED + index * 7919);
        const tenant = await openTenant(`t${index}`, world, remote, join(directory, `t${index}`));
        const { journal, earlier } = await tenant.bringAbout();
        const damage = kind === undefined ? undefined : DAMAGES[kind];
        const before = await contentsOf(join(journal, "journal"));
        const did = await damage?.(join(journal, "journal"), random, earlier);
        const what = `${index}: ${kind ?? "nothing"}${did === undefined ? "" : `, ${did}`}`;
        const after = await contentsOf(join(journal, "journal"));
        const named: string[] = [];
        const told = (text: string, details: unknown): void => void named.push(`${text} ${JSON.stringify(details)}`);
        tenant.release();
        const known = { what, named, taken: takenOf(before, after).length };
        let store: LevelStore | undefined;
        const media = tenant.component(journal, {
            logger: { ...silent, error: told },
            store: (path) => (store = new LevelStore(path)),
        });
        try {
            await media.start();
            // Behind everything that is in line.
            const last: Said[] = [...tenant.plainRooms, tenant.encryptedRoom].map((roomId) => ({
                label: "Z9.99",
                roomId,
                kind: "text",
                encrypted: roomId === tenant.encryptedRoom,
            }));
            await within(
                30_000,
                Promise.all(last.map((said) => tenant.say(media, { ...said, label: `Z9.9${last.indexOf(said)}` }))),
                "the lines go on",
            );
            await until(() => isQuiet(media), { what: "every job ends", limitMs: 30_000 });
            await until(async () => (await isQuiet(media)) && nothingIsDue(), { what: "edits", limitMs: 30_000 });
            const failed = await unfinished(media);
            await media.close();
            const unnamed = unnamedOf(before, after, named, kind?.startsWith("count ") !== true);
            return { ...known, unnamed, failed, ...(await judge(tenant, world)) };
        } catch (error) {
            const open = await unfinished(media).catch(() => []);
            await media.close().catch(() => {});
            return { ...known, unnamed: [], wrong: [`it does not go on: ${String(error)}`, ...open], lost: [] };
        }

        /** No event stands in line, nor is one to be looked at for an edit. */
        async function nothingIsDue(): Promise<boolean> {
            for (const collection of [OUTBOX, REVISE])
                for await (const _ of store?.keys({ collection, limit: 1 }) ?? []) return false;
            return true;
        }
    }

    it("does nothing else when nothing is damaged: everything arrives, nothing is named", async () => {
        const { wrong, lost, named, unnamed, failed } = await run(0, undefined);
        expect({ wrong, lost, named, unnamed }, JSON.stringify(failed, null, 1)).to.deep.equal({
            wrong: [],
            lost: [],
            named: [],
            unnamed: [],
        });
    });

    it(`is named, and nothing wrong is sent: ${RUNS} damages, seed ${SEED}`, async () => {
        const outcomes: Outcome[] = [];
        let next = 1;
        const work = async (): Promise<void> => {
            while (next <= RUNS) {
                const index = next++;
                outcomes.push(await run(index, ONLY ?? kinds[index % kinds.length]));
            }
        };
        await Promise.all(Array.from({ length: AT_ONCE }, work));
        expect(outcomes).to.have.length(RUNS);
        const wrong = outcomes.filter((outcome) => outcome.wrong.length > 0);
        const unnamed = outcomes.filter(
            (outcome) => outcome.unnamed.length > 0 || (outcome.lost.length > 0 && outcome.named.length === 0),
        );
        const withLoss = outcomes.filter(({ lost }) => lost.length > 0).length;
        const noticed = outcomes.filter(({ named }) => named.length > 0).length;
        const taken = outcomes.reduce((sum, outcome) => sum + outcome.taken, 0);
        console.log(
            `      seed ${SEED}: ${outcomes.length} damages, ${noticed} noticed, ${withLoss} took something from the rooms; ` +
                `${taken} messages' and jobs' records taken; ${unnamed.length} not named in full, ` +
                `${wrong.length} with something wrong`,
        );
        expect(wrong, `wrong, seed ${SEED}: ${JSON.stringify(wrong, null, 1)}`).to.have.length(0);
        expect(unnamed, `unnamed, seed ${SEED}: ${JSON.stringify(unnamed, null, 1)}`).to.have.length(0);
    });
});

async function unfinished(media: BridgeMedia): Promise<string[]> {
    const found: string[] = [];
    for await (const job of media.jobs()) {
        if (!["done", "cancelled", "replaced"].includes(job.state)) found.push(JSON.stringify(job));
    }
    return found;
}

const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };

async function within<T>(ms: number, promise: Promise<T>, what: string): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
        timer = setTimeout(() => reject(new Error(`Never came: ${what}`)), ms);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
