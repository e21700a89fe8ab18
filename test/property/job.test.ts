import { expect } from "chai";
import fc from "fast-check";
import { MediaError } from "../../src/errors.ts";
import type { StoredRecord } from "../../src/store/store.ts";
import { isFinal, type Job } from "../../src/uploads/job.ts";
import { type JobEvent, transition } from "../../src/uploads/transition.ts";
import { EXPIRING, HELD, jobWrites, SCHEDULE, WAITING } from "../../src/uploads/job-records.ts";
import { someJob } from "../support/job.ts";

const time = fc.integer({ min: 0, max: 4e12 });
const error = fc.constantFrom(new MediaError("SOURCE_UNAVAILABLE"), new MediaError("SOURCE_NOT_FOUND"));
const presigned = { url: "https://s3.example.org/x?signature=presigned", method: "PUT" } as const;
const event: fc.Arbitrary<JobEvent> = fc.oneof(
    fc.record({
        type: fc.constant("reserve" as const),
        contentUri: fc.constant("mxc://a/b"),
        expiresAt: fc.option(time, { nil: undefined }),
        presigned: fc.option(fc.constant(presigned), { nil: undefined }),
    }),
    fc.record({ type: fc.constant("stored" as const), size: fc.nat() }),
    fc.record({
        type: fc.constant("postpone" as const),
        error,
        at: time,
        notBefore: time,
        ownFault: fc.constant(false),
        presigned: fc.option(fc.constant(presigned), { nil: undefined }),
    }),
    fc.record({ type: fc.constant("release" as const), dueAt: time }),
    fc.constant({ type: "begin" as const }),
    fc.record({ type: fc.constant("finish" as const), size: fc.nat(), contentUri: fc.constant("mxc://a/b"), at: time }),
    fc.record({ type: fc.constant("postpone" as const), error, at: time, notBefore: time, ownFault: fc.boolean() }),
    fc.constant({ type: "refresh" as const, source: { kind: "connector" as const, connector: "c", ref: "fresh" } }),
    fc.constant({ type: "hold" as const, source: "net" }),
    fc.constant({ type: "promote" as const }),
    fc.record({ type: fc.constant("replace" as const), by: fc.constant("other"), at: time }),
    fc.constant({ type: "park" as const }),
    fc.record({ type: fc.constant("fail" as const), error, at: time }),
    fc.record({ type: fc.constant("retry" as const), dueAt: time }),
    fc.record({ type: fc.constant("cancel" as const), at: time }),
);

const fresh = someJob({
    state: "unreserved",
    source: { kind: "http", url: "https://files.example.org/x?token=secret", headers: { cookie: "secret" } },
});

describe("a job's transitions", () => {
    it("keep the journal and the queue's index in step, whatever happens", () => {
        fc.assert(
            fc.property(fc.array(event, { maxLength: 40 }), (events) => {
                const journal = new Map<string, StoredRecord>();
                const write = (writes: ReturnType<typeof jobWrites>): void => {
                    for (const { collection, key, record } of writes) {
                        if (record === undefined) journal.delete(`${collection} ${key}`);
                        else journal.set(`${collection} ${key}`, record);
                    }
                };
                let job: Job = { ...fresh, messageId: "message" };
                write(jobWrites(undefined, job));
                for (const step of events) {
                    const next = transition(job, step);
                    if (next === undefined) continue;
                    write(jobWrites(job, next));
                    job = next;
                    const places = [...journal.keys()].filter((key) =>
                        [SCHEDULE, WAITING, HELD].some((list) => key.startsWith(`${list} `)),
                    );
                    const isQueued = ["ready", "transferring", "completing"].includes(job.state);
                    const queued = isQueued && job.dueAt !== undefined;
                    expect(places).to.have.length(queued ? 1 : 0);
                    if (queued)
                        expect(places[0]).to.match(
                            job.notBefore !== undefined
                                ? /^waiting /
                                : job.heldFor !== undefined
                                  ? /^held net /
                                  : /^schedule /,
                        );
                    expect(journal.get("job job")).to.equal(job);
                    const ending = [...journal.keys()].filter((key) => key.startsWith(EXPIRING));
                    const ends = job.state === "ready" && job.contentUri !== undefined && job.expiresAt !== undefined;
                    expect(ending).to.have.length(ends ? 1 : 0);
                }
            }),
        );
    });

    it("leave a final state only by retry of a failure, or by its being cancelled", () => {
        fc.assert(
            fc.property(fc.array(event, { maxLength: 30 }), event, (events, last) => {
                const job = events.reduce((current, step) => transition(current, step) ?? current, fresh);
                if (!isFinal(job.state)) return;
                const next = transition(job, last);
                const mayGoOn = job.state === "failed" && (last.type === "retry" || last.type === "cancel");
                expect(next === undefined || mayGoOn).to.equal(true);
            }),
        );
    });

    it("forget the source's secrets when the file is there", () => {
        const begun = transition({ ...fresh, state: "ready", dueAt: 1 }, { type: "begin" });
        const done = begun && transition(begun, { type: "finish", size: 1, contentUri: "mxc://a/b", at: 2 });
        expect(JSON.stringify(done)).not.to.contain("secret");
    });

    it("forget the presigned address in every final state, a failure's too", () => {
        fc.assert(
            fc.property(fc.constantFrom("ready", "transferring", "completing"), event, (state, step) => {
                const job = transition({ ...fresh, state, dueAt: 1, presigned }, step);
                if (job !== undefined && isFinal(job.state)) expect(JSON.stringify(job)).not.to.contain("presigned");
            }),
        );
    });

    it("take the bytes up again when a presigned target that has them is given up, with all tries", () => {
        const error = new MediaError("PRESIGNED_REFUSED");
        const steps: JobEvent[] = [
            { type: "reserve", contentUri: "mxc://a/b", expiresAt: undefined, presigned },
            { type: "release", dueAt: 1 },
            { type: "begin" },
            { type: "stored", size: 5 },
            { type: "postpone", error, at: 1, notBefore: 2, ownFault: true },
        ];
        const job = steps.reduce((current, step) => transition(current, step) ?? current, fresh);
        expect(job).to.include({ state: "completing", attempts: 1, size: 5 });
        expect(transition(job, { type: "begin" })).to.include({ state: "completing" });
        const dropped = {
            type: "postpone",
            error,
            at: 3,
            notBefore: 3,
            ownFault: false,
            presigned: undefined,
        } as const;
        expect(transition(job, dropped)).to.include({ state: "ready", attempts: 0, presigned: undefined });
    });
});
