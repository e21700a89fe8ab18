import { syncBuiltinESMExports } from "node:module";
import timers from "node:timers/promises";
import { expect } from "chai";
import { Closing } from "../../src/bridge/closing.ts";
import { HomeserverRequests, nextTryIn } from "../../src/bridge/homeserver-requests.ts";
import { type ErrorCode, type ErrorDetails, MediaError } from "../../src/errors.ts";
import { silentLogger } from "../../src/logger.ts";
import { toldWaitMs } from "../../src/matrix/answer.ts";
import { RightOfWay } from "../../src/right-of-way.ts";
import type { Job } from "../../src/uploads/job.ts";
import { dueTime } from "../../src/uploads/priority.ts";
import { afterFailure } from "../../src/uploads/retry.ts";
import { transition } from "../../src/uploads/transition.ts";
import { someJob } from "../support/job.ts";

const MIB = 2 ** 20;
const DAY = 86_400_000;
const at = { readyAt: 1_000_000_000, size: 0, backfill: false, expiresAt: undefined };

describe("the order of work", () => {
    it("small before large, and a large one that has waited before a small one that has not", () => {
        expect(dueTime({ ...at, size: 10_000 })).to.be.below(dueTime({ ...at, size: 100 * MIB }));
        expect(dueTime({ ...at, size: 100 * MIB })).to.be.below(dueTime({ ...at, readyAt: at.readyAt + 200_000 }));
    });

    it("live before backfill, however large, and however long that has waited or soon its address ends", () => {
        const live = dueTime({ ...at, size: 4096 * MIB });
        expect(live).to.be.below(dueTime({ ...at, size: 1, backfill: true }));
        const readyAt = at.readyAt - 10 * 365 * DAY;
        expect(live).to.be.below(dueTime({ ...at, backfill: true, readyAt, expiresAt: at.readyAt + 1 }));
    });

    it("history whose address is with its caller, before that ends", () => {
        const expiresAt = at.readyAt + DAY;
        const due = dueTime({ ...at, backfill: true, isBound: true, expiresAt });
        expect(due).to.be.within(dueTime({ ...at, size: 4096 * MIB }), expiresAt);
    });

    it("what expires first, first", () => {
        const expiresAt = at.readyAt + 5 * 60_000;
        const soon = dueTime({ ...at, size: 4096 * MIB, expiresAt });
        expect(soon).to.be.below(dueTime({ ...at, size: 4096 * MIB, expiresAt: at.readyAt + DAY }));
        expect(soon, "still within its life").to.be.below(expiresAt);
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

    it("backs off from what passes by waiting too, up to a minute, and gives none of it up", () => {
        const delays = (error: MediaError): unknown[] =>
            [0, 1, 4, 6, 7, 100]
                .map((waits) => afterFailure(error, { ...tries, attempts: 2, waits }, half))
                .map((verdict) => (verdict.action === "retry" ? verdict.delayMs : "gives up"));
        expect(delays(new MediaError("HOMESERVER_RATE_LIMITED"))).to.deep.equal([
            375, 750, 6000, 24_000, 45_000, 45_000,
        ]);
        const told = new MediaError("UPLOAD_PENDING", { retryAfterMs: 5000 });
        expect(delays(told), "told too short").to.deep.equal([5025, 5025, 6000, 24_000, 45_000, 45_000]);
        const long = new MediaError("HOMESERVER_RATE_LIMITED", { retryAfterMs: 600_000 });
        expect(delays(long)[5]).to.equal(600_025);
    });

    it("counts what was waited for in a row: another failure, or the next step, begins anew", () => {
        const job = someJob({ state: "transferring", contentUri: "mxc://b/c", dueAt: 1, attempts: 1 });
        const failed = (before: Job | undefined, code: ErrorCode, ownFault = false): Job | undefined => {
            const error = new MediaError(code);
            const begun = before && transition(before, { type: "begin" });
            return begun && transition(begun, { type: "postpone", error, at: 1, notBefore: 2, ownFault });
        };
        const twice = failed(failed(job, "HOMESERVER_RATE_LIMITED"), "SPOOL_FULL");
        expect(twice).to.include({ waits: 2, attempts: 1, state: "ready" });
        expect(failed(twice, "SOURCE_TIMEOUT")?.waits).to.equal(undefined);
        expect(failed(twice, "SOURCE_RATE_LIMITED"), "beside others").to.include({ waits: 3, attempts: 1 });
        expect(failed(twice, "SOURCE_RATE_LIMITED", true), "alone").to.include({ waits: undefined, attempts: 2 });
        const begun = transition(twice ?? job, { type: "begin" }) ?? job;
        expect(begun.waits).to.equal(2);
        expect(transition(begun, { type: "stored", size: 1 })?.waits).to.equal(undefined);
    });

    it("never undercuts a told wait, and believes none beyond an hour", () => {
        const wait = (retryAfterMs: number): number => {
            const verdict = afterFailure(new MediaError("SOURCE_RATE_LIMITED", { retryAfterMs }), tries, half);
            return verdict.action === "retry" ? verdict.delayMs : Number.NaN;
        };
        expect(wait(20_000)).to.be.within(20_000, 20_050);
        expect(wait(24 * 3600_000)).to.be.within(3_600_000, 3_600_050);
    });

    it("tries a refusal without a Matrix code again, and waits half a minute for it at most; with one it is final", () => {
        const told = { status: 403, retryAfterMs: 3600_000 };
        expect(afterFailure(new MediaError("FORBIDDEN", told), tries, half)).to.deep.equal({
            action: "retry",
            delayMs: 32_025,
        });
        expect(afterFailure(new MediaError("FORBIDDEN", told), { ...tries, attempts: 2 }).action).to.equal("give-up");
        const coded = new MediaError("FORBIDDEN", { ...told, errcode: "M_FORBIDDEN" });
        expect(afterFailure(coded, tries)).to.deep.equal({ action: "give-up" });
    });

    it("waits a source's 429 out, for longer each time, while other files come from it; alone it costs a try", () => {
        const error = new MediaError("SOURCE_RATE_LIMITED", { status: 429 });
        const last = { ...tries, attempts: 2 };
        expect(afterFailure(error, last)).to.deep.equal({ action: "give-up" });
        const beside = [0, 1, 4, 100].map((waits) => afterFailure(error, { ...last, waits, besideOthers: true }, half));
        expect(beside).to.deep.equal([375, 750, 6000, 45_000].map((delayMs) => ({ action: "retry", delayMs })));
        const failing = { ...last, besideOthers: true };
        expect(afterFailure(new MediaError("SOURCE_UNAVAILABLE"), failing).action, "a 503").to.equal("give-up");
    });

    it("backs off all the same where a told wait is too short", () => {
        for (const code of ["SOURCE_UNAVAILABLE", "SOURCE_RATE_LIMITED", "HOMESERVER_FAILING"] as const) {
            const error = new MediaError(code, { retryAfterMs: 1000 });
            const delays = [0, 1, 4, 8].map((attempts) =>
                afterFailure(error, { ...tries, maxAttempts: 10, attempts }, half),
            );
            expect(delays, code).to.deep.equal(
                [1025, 1025, 6000, 96_000].map((delayMs) => ({ action: "retry", delayMs })),
            );
        }
    });

    it("an outage of the homeserver uses up no tries, unless others got through meanwhile", () => {
        const error = new MediaError("HOMESERVER_FAILING");
        const last = { ...tries, attempts: 2, failedAt: 1000 };
        expect(afterFailure(error, last).action).to.equal("retry");
        expect(afterFailure(error, { ...last, lastSuccessAt: 500 }).action).to.equal("retry");
        expect(afterFailure(error, { ...last, lastSuccessAt: 2000 }).action).to.equal("give-up");
    });

    it("tries a refusal without a Matrix code eight times in all, for four minutes at most, and one with it once", () => {
        const waits = (details: ErrorDetails): number[] => {
            const found: number[] = [];
            for (let refusals = 0; found.length < 100; refusals++) {
                // After a long outage.
                const wait = nextTryIn(new MediaError("EVENT_REFUSED", details), 50, refusals);
                if (wait === undefined) break;
                found.push(wait);
            }
            return found;
        };
        const sum = (numbers: number[]): number => numbers.reduce((all, one) => all + one, 0);
        expect(waits({ status: 400 })).to.have.length(7);
        expect(sum(waits({ status: 400 }))).to.be.within(31_000, 64_000);
        expect(sum(waits({ status: 400, retryAfterMs: 3600_000 }))).to.be.below(240_000);
        expect(waits({ status: 400, errcode: "M_BAD_JSON" })).to.have.length(0);
        expect(waits({ status: 414 })).to.have.length(0);
        expect(waits({}), "no answer at all").to.have.length(0);
        expect(nextTryIn(new MediaError("HOMESERVER_FAILING", { status: 408 }), 2, 50)).to.be.within(1000, 2000);
    });

    it("and no more often than that, whatever came before it", async () => {
        const { setTimeout: sleep } = timers;
        timers.setTimeout = (async () => {}) as typeof sleep;
        syncBuiltinESMExports();
        try {
            const closing = new Closing();
            const requests = new HomeserverRequests({ closing, logger: silentLogger, way: new RightOfWay() });
            let asked = 0;
            const answer = async (): Promise<never> => {
                throw asked++ < 20
                    ? new MediaError("HOMESERVER_UNREACHABLE")
                    : new MediaError("EVENT_REFUSED", { status: 400 });
            };
            const end = await requests.untilAnswered({ sender: "@a:b" }, answer).catch(({ code }: MediaError) => code);
            expect([end, asked]).to.deep.equal(["EVENT_REFUSED", 28]);
        } finally {
            timers.setTimeout = sleep;
            syncBuiltinESMExports();
        }
    });

    it("reads Retry-After in seconds, as a date, and not at all", () => {
        expect(toldWaitMs(250, "9")).to.equal(250);
        expect(toldWaitMs(undefined, "2")).to.equal(2000);
        expect(toldWaitMs(undefined, "Thu, 01 Jan 1970 00:00:05 GMT", 1000)).to.equal(4000);
        expect(toldWaitMs("soon", "soon")).to.equal(undefined);
    });
});
