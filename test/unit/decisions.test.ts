import { expect } from "chai";
import { MediaError } from "../../src/errors.ts";
import { toldWaitMs } from "../../src/matrix/answer.ts";
import { dueTime } from "../../src/uploads/priority.ts";
import { afterFailure } from "../../src/uploads/retry.ts";

const MIB = 2 ** 20;
const at = { readyAt: 1_000_000_000, size: 0, backfill: false, expiresAt: undefined };

describe("the order of work", () => {
    it("small before large, and a large one that has waited before a small one that has not", () => {
        expect(dueTime({ ...at, size: 10_000 })).to.be.below(dueTime({ ...at, size: 100 * MIB }));
        expect(dueTime({ ...at, size: 100 * MIB })).to.be.below(dueTime({ ...at, readyAt: at.readyAt + 200_000 }));
    });

    it("live before backfill, however large", () => {
        expect(dueTime({ ...at, size: 4096 * MIB })).to.be.below(dueTime({ ...at, size: 1, backfill: true }));
    });

    it("what expires first, first", () => {
        const soon = dueTime({ ...at, backfill: true, size: 4096 * MIB, expiresAt: at.readyAt + 30 * 60_000 });
        expect(soon).to.be.below(dueTime({ ...at, backfill: true, expiresAt: at.readyAt + 24 * 3600_000 }));
        expect(soon, "still within its life").to.be.below(at.readyAt + 30 * 60_000);
        // A server with short lives must not turn live before backfill into first come, first served.
        expect(dueTime({ ...at, expiresAt: at.readyAt + 30 * 60_000 })).to.be.below(soon);
    });
});

describe("what happens after a failure", () => {
    const tries = { attempts: 0, maxAttempts: 3, failedAt: undefined, lastSuccessAt: undefined };
    const half = (): number => 0.5;

    it("gives up at once on what will not change", () => {
        expect(afterFailure(new MediaError("SOURCE_NOT_FOUND"), tries)).to.deep.equal({ action: "give-up" });
    });

    it("backs off exponentially, and gives up after the last try", () => {
        const error = new MediaError("SOURCE_UNAVAILABLE");
        const delays = [0, 1].map((attempts) => afterFailure(error, { ...tries, attempts }, half));
        expect(delays).to.deep.equal([
            { action: "retry", delayMs: 375 },
            { action: "retry", delayMs: 750 },
        ]);
        expect(afterFailure(error, { ...tries, attempts: 2 })).to.deep.equal({ action: "give-up" });
    });

    it("never undercuts a told wait, and believes none beyond an hour", () => {
        const wait = (retryAfterMs: number): number => {
            const verdict = afterFailure(new MediaError("SOURCE_RATE_LIMITED", { retryAfterMs }), tries, half);
            return verdict.action === "retry" ? verdict.delayMs : Number.NaN;
        };
        expect(wait(20_000)).to.be.within(20_000, 20_050);
        expect(wait(24 * 3600_000)).to.be.within(3_600_000, 3_600_050);
    });

    it("an outage of the homeserver uses up no tries, unless others got through meanwhile", () => {
        const error = new MediaError("HOMESERVER_FAILING");
        const last = { ...tries, attempts: 2, failedAt: 1000 };
        expect(afterFailure(error, last).action).to.equal("retry");
        expect(afterFailure(error, { ...last, lastSuccessAt: 500 }).action).to.equal("retry");
        expect(afterFailure(error, { ...last, lastSuccessAt: 2000 }).action).to.equal("give-up");
    });

    it("reads Retry-After in seconds, as a date, and not at all", () => {
        expect(toldWaitMs(250, "9")).to.equal(250);
        expect(toldWaitMs(undefined, "2")).to.equal(2000);
        expect(toldWaitMs(undefined, "Thu, 01 Jan 1970 00:00:05 GMT", 1000)).to.equal(4000);
        expect(toldWaitMs("soon", "soon")).to.equal(undefined);
    });
});
