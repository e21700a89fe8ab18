import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, rmdir, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { ClassicLevel } from "classic-level";
import type { MediaError } from "../../src/errors.ts";
import { LevelStore } from "../../src/store/level.ts";
import { encodeRecord } from "../../src/store/record-codec.ts";
import type { Damage } from "../../src/store/store.ts";
import { afterFailure } from "../../src/uploads/retry.ts";

const ROWS = 500;

describe("reading the store on LevelDB", () => {
    let directory: string;
    let journal: string;
    let store: LevelStore;
    let damages: Damage[];
    let onDamage: () => void;
    beforeEach(async () => {
        directory = await mkdtemp(join(tmpdir(), "store-reading-"));
        journal = join(directory, "journal");
        damages = [];
        onDamage = () => {};
    });
    afterEach(async () => {
        await store.close();
        await rm(directory, { recursive: true, force: true });
    });

    /** Opens one with some rows of 10 kB, in tables that are opened when they are first read. */
    async function openFilled(garbled?: string): Promise<void> {
        const db = new ClassicLevel(journal);
        for (let index = 0; index < ROWS; index++) {
            const path = `row\u0000${keyOf(index)}`;
            const record = { value: index, filler: randomBytes(5000).toString("hex") };
            await db.put(path, keyOf(index) === garbled ? "garbled" : encodeRecord(path, record));
        }
        await db.compactRange("", "\u{10FFFF}");
        await db.close();
        await open();
    }

    async function open(): Promise<void> {
        store = new LevelStore(journal);
        await store.open((damage) => {
            damages.push(damage);
            onDamage();
        });
    }

    const keyOf = (index: number): string => String(index).padStart(3, "0");
    const keys = Array.from({ length: ROWS }, (_, index) => keyOf(index));
    const put = (key: string, value: string) => ({ collection: "row", key, record: { value } });
    const range = () => store.range({ collection: "row" });
    const valueOf = async (key: string): Promise<unknown> => (await store.get("row", key))?.["value"];

    /** All that comes; `act` is awaited while the consumer has the second in hand. */
    async function all(entries: AsyncIterable<unknown>, act: () => Promise<unknown> = async () => {}) {
        const seen: unknown[] = [];
        for await (const entry of entries) {
            seen.push(Array.isArray(entry) ? entry[0] : entry);
            if (seen.length === 2) await act();
        }
        return seen;
    }

    async function failureOf(reading: Promise<unknown>): Promise<MediaError> {
        return reading.then(
            () => expect.fail("no error"),
            (error: unknown) => error as MediaError,
        );
    }

    /** Each table is a link to itself: whoever opens it is refused with ELOOP, which, like EMFILE and EIO, is no damage. */
    async function whileTablesAreRefused(act: () => Promise<void>): Promise<void> {
        const tables = (await readdir(journal)).filter((name) => name.endsWith(".ldb"));
        expect(tables.length).to.be.greaterThan(1);
        for (const name of tables) {
            await rename(join(journal, name), join(directory, name));
            await symlink(name, join(journal, name));
        }
        await act();
        for (const name of tables) await rename(join(directory, name), join(journal, name));
    }

    it("a refused read rejects with a code that is waited out, and succeeds when the disk gives what there is", async () => {
        await openFilled();
        await whileTablesAreRefused(async () => {
            for (const reading of [valueOf("000"), all(range()), all(store.keys({ collection: "row" }))]) {
                const error = await failureOf(reading);
                expect(error).to.include({ name: "MediaError", code: "STORE_READ_FAILED", retryable: true });
                expect(error.message).to.contain("Too many levels of symbolic links");
                const lastTry = { attempts: 9, maxAttempts: 10, failedAt: undefined, lastSuccessAt: undefined };
                expect(afterFailure(error, lastTry).action).to.equal("retry");
            }
        });
        expect(await valueOf("000")).to.equal(0);
        expect(await all(range())).to.deep.equal(keys);
        expect(damages).to.deep.equal([]);
    });

    it("a damaged record of which no copy can be made is not taken out: the read is to be repeated", async () => {
        await openFilled("100");
        const copy = join(directory, "damaged-records.jsonl");
        await mkdir(copy);
        expect(await failureOf(all(range()))).to.include({ code: "STORE_WRITE_FAILED", retryable: true });
        await rmdir(copy);
        expect(await all(range())).to.deep.equal(keys.filter((key) => key !== "100"));
        expect(await readFile(copy, "utf8")).to.contain("garbled");
        expect(damages).to.have.length(1);
    });

    for (const [name, entries] of [
        ["range", range],
        ["range of keys", () => store.keys({ collection: "row" })],
    ] as const) {
        it(`a ${name} goes on behind its last record while the store is opened anew, and after that`, async () => {
            await openFilled();
            for (const isAwaited of [false, true]) {
                let reopened: Promise<unknown> = Promise.resolve();
                const reopen = async (): Promise<void> => {
                    // No JSON holds a bigint, so this commit can only be refused; the next access opens it anew.
                    const refused = { collection: "row", key: "refused", record: { value: 1n } };
                    expect(await failureOf(store.commit([refused]))).to.include({ code: "STORE_WRITE_FAILED" });
                    reopened = valueOf("001");
                    if (isAwaited) await reopened;
                };
                expect(await all(entries(), reopen), `awaited: ${isAwaited}`).to.deep.equal(keys);
                expect(await reopened).to.equal(1);
            }
        });
    }

    it("rejects with CLOSED after close(), also in the middle of a range", async () => {
        await openFilled();
        expect(await failureOf(all(range(), () => store.close()))).to.include({ code: "CLOSED" });
        for (const reading of [valueOf("000"), all(range())])
            expect(await failureOf(reading)).to.include({ code: "CLOSED" });
    });

    describe("takes a damaged record out, and not the one that was written in its place", () => {
        async function expectAnew(): Promise<void> {
            expect(await valueOf("499")).to.equal("anew");
            await store.close();
            await open();
            expect(await valueOf("499"), "after a restart").to.equal("anew");
        }

        it("while a range still looked at what was there when it began", async () => {
            await openFilled("499");
            const sendAgain = async (): Promise<void> => {
                expect(await valueOf("499")).to.equal(undefined);
                await store.commit([put("499", "anew")]);
            };
            expect(await all(range(), sendAgain)).to.deep.equal(keys.slice(0, -1));
            await expectAnew();
        });

        it("in the same write, before it", async () => {
            await openFilled("499");
            let sentAgain: Promise<void> | undefined;
            // Called just before the damaged one is taken out, which goes into the same group.
            onDamage = () => {
                sentAgain ??= store.commit([put("499", "anew"), put("other", "too")]);
            };
            expect(await valueOf("499")).to.equal(undefined);
            await sentAgain;
            expect(await valueOf("other")).to.equal("too");
            await expectAnew();
        });

        it("in the same write, behind it", async () => {
            await openFilled("499");
            const read = valueOf("499");
            let sentAgain: Promise<void> | undefined;
            onDamage = () =>
                queueMicrotask(() => {
                    sentAgain ??= store.commit([put("499", "anew")]);
                });
            expect(await read).to.equal(undefined);
            await sentAgain;
            await expectAnew();
        });
    });
});
