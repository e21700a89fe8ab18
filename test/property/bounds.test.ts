import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import fc from "fast-check";
import { assertBounded } from "../support/model.ts";

describe("a model's time limit", () => {
    /** Not to be over before the second run has begun. */
    const LIMIT_MS = 500;
    const LONGER_MS = LIMIT_MS + 100;
    // Other models may be asked to run for longer; these limits are this test's own.
    const given = process.env["MODEL_RUNS"];
    before(() => void delete process.env["MODEL_RUNS"]);
    after(() => {
        if (given !== undefined) process.env["MODEL_RUNS"] = given;
    });
    let runs: number;
    beforeEach(() => (runs = 0));
    /** A first run that ends well, and a second one that is under way when the time is over. */
    const second = (run: () => Promise<void>, graceMs = 20_000) =>
        assertBounded(
            fc.asyncProperty(fc.nat(), () => (++runs === 1 ? Promise.resolve() : run())),
            10,
            { limitMs: LIMIT_MS, graceMs },
        );
    const rejection = (promise: Promise<void>): Promise<unknown> =>
        promise.then(
            () => undefined,
            (error: unknown) => error,
        );

    it("waits for the run under way", async () => {
        let isOver = false;
        await second(async () => {
            await sleep(LONGER_MS);
            isOver = true;
        });
        expect({ runs, isOver }).to.deep.equal({ runs: 2, isOver: true });
    });

    it("fails with the run under way", async () => {
        const cause = new Error("found late");
        const error = await rejection(second(() => sleep(LONGER_MS).then(() => Promise.reject(cause))));
        expect(error).to.be.instanceOf(Error).with.property("cause", cause);
    });

    it("fails where the run under way hangs", async () => {
        const error = await rejection(second(() => new Promise(() => {}), 100));
        expect(String(error)).to.match(/hangs: \[\d+\]/);
    });

    it("passes where a run under way does not apply", async () => {
        await second(async () => {
            await sleep(LONGER_MS);
            fc.pre(false);
        });
    });

    it("fails at once where a run has failed", async () => {
        const error = await rejection(second(() => Promise.reject(new Error("found"))));
        expect(String(error)).to.include("Property failed after 2 tests");
    });
});
