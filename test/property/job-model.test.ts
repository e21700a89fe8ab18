import { expect } from "chai";
import fc from "fast-check";
import { MediaError } from "../../src/errors.ts";
import type { StoredRecord } from "../../src/store/store.ts";
import { type Job, type JobState, isFinal } from "../../src/uploads/job.ts";
import { FOLLOWING, HELD, jobWrites, SCHEDULE, WAITING } from "../../src/uploads/job-records.ts";
import { type JobEvent, transition } from "../../src/uploads/transition.ts";
import { someJob } from "../support/job.ts";
import { assertBounded } from "../support/model.ts";

/** What the chart above `transition()` says, written down a second time: event → from these states → to this one. */
const ALL = "unreserved reserved ready transferring completing";
const CHART: Record<JobEvent["type"], Record<string, string>> = {
    reserve: { "unreserved reserved transferring": "reserved" },
    encrypt: { unreserved: "unreserved", reserved: "reserved", transferring: "transferring" },
    prepare: { transferring: "rest" },
    "forget-key": { done: "done", failed: "failed", cancelled: "cancelled" },
    release: { "unreserved reserved ready": "ready" },
    begin: { "ready transferring unreserved reserved": "transferring", completing: "completing" },
    refresh: { transferring: "transferring" },
    stored: { transferring: "completing" },
    reuse: { [ALL]: "done" },
    finish: { "transferring completing": "done" },
    postpone: { transferring: "rest", completing: "completing" },
    hold: { "ready transferring": "ready" },
    promote: { ready: "ready", completing: "completing" },
    park: { transferring: "rest", completing: "completing" },
    fail: { "ready transferring completing": "failed" },
    follow: { "ready transferring completing": "ready" },
    lead: { ready: "ready", transferring: "transferring", completing: "completing" },
    hasten: Object.fromEntries(ALL.split(" ").map((state) => [state, state])),
    retry: { failed: "ready" },
    replace: { "ready transferring completing": "replaced" },
    cancel: { [`${ALL} failed`]: "cancelled" },
};

function expected(job: Job, { type }: JobEvent): JobState | undefined {
    const to = Object.entries(CHART[type]).find(([from]) => from.split(" ").includes(job.state))?.[1];
    // The queue is about it, and its try brings an address.
    if (type === "reserve" && job.state === "transferring" && job.dueAt !== undefined) return undefined;
    // What others share is not encrypted: its address is left to them.
    if (type === "encrypt" && to !== undefined && job.dedupe !== undefined) return "unreserved";
    if (to !== "rest") return to as JobState | undefined;
    if (type === "prepare" && (job.encryption === undefined || job.dueAt !== undefined)) return job.state;
    if (job.dueAt !== undefined) return "ready";
    return job.contentUri === undefined ? "unreserved" : "reserved";
}

const time = fc.integer({ min: 0, max: 4e12 });
const error = fc.constantFrom(new MediaError("SOURCE_UNAVAILABLE"), new MediaError("SOURCE_CHANGED"));
const mxc = fc.constantFrom("mxc://a/one", "mxc://a/two");
const presigned = { url: "https://s3.example.org/x?signature=secret", method: "PUT" } as const;
const prepared = {
    file: { v: "v2", key: { k: "secret" }, iv: "iv", hashes: { sha256: "h" } } as never,
    size: 3,
    spoolName: undefined,
};
const type = <T extends JobEvent["type"]>(name: T) => ({ type: fc.constant(name) });
const event: fc.Arbitrary<JobEvent> = fc.oneof(
    fc.record({
        ...type("reserve"),
        contentUri: mxc,
        expiresAt: fc.option(time, { nil: undefined }),
        presigned: fc.option(fc.constant(presigned), { nil: undefined }),
    }),
    fc.record({ ...type("encrypt"), strategy: fc.constantFrom("spool" as const, "two-pass" as const) }),
    fc.record({ ...type("prepare"), prepared: fc.constant(prepared) }),
    fc.record(type("forget-key")),
    fc.record({ ...type("release"), dueAt: time }),
    fc.record(type("begin")),
    fc.record({
        ...type("refresh"),
        source: fc.constant({ kind: "connector", connector: "c", ref: "secret" } as const),
    }),
    fc.record({ ...type("stored"), size: fc.nat() }),
    fc.record({ ...type("reuse"), contentUri: mxc, size: fc.nat(), at: time }),
    fc.record({ ...type("finish"), contentUri: mxc, size: fc.nat(), at: time }),
    fc.record({ ...type("postpone"), error, at: time, notBefore: time, ownFault: fc.boolean() }),
    fc.record({ ...type("hold"), source: fc.constant("net") }),
    fc.record(type("promote")),
    fc.record(type("park")),
    fc.record({ ...type("fail"), error, at: time }),
    fc.record({ ...type("follow"), at: time }),
    fc.record(
        {
            ...type("lead"),
            address: fc.record({ contentUri: mxc }),
            dueAt: time,
            dedupe: fc.constantFrom("file", "other file"),
        },
        { requiredKeys: ["type", "address", "dueAt"] },
    ),
    fc.record({ ...type("hasten"), dueAt: time }),
    fc.record({ ...type("retry"), dueAt: time }),
    fc.record({ ...type("replace"), by: fc.constant("other"), at: time }),
    fc.record({ ...type("cancel"), at: time }),
);

const FRESH = someJob({
    state: "unreserved",
    source: { kind: "http", url: "https://files.example.org/x?token=secret", headers: { cookie: "secret" } },
    messageId: "message",
    dedupe: "file",
});

/** Where a job is to be found after a crash: in one list, or in none when nobody has to work at it. */
function listOf(job: Job): string | undefined {
    if (!["ready", "transferring", "completing"].includes(job.state) || job.dueAt === undefined) return undefined;
    if (job.follows === true) return FOLLOWING;
    if (job.notBefore !== undefined) return WAITING;
    return job.heldFor === undefined ? SCHEDULE : HELD;
}

describe("the model of a job", () => {
    it("goes as the chart says, stands in the one list where it belongs, and keeps no secret when it is over", () => {
        assertBounded(
            fc.property(fc.boolean(), fc.array(event, { maxLength: 60, size: "max" }), (backfill, events) => {
                const rows = new Map<string, StoredRecord>();
                const write = (writes: ReturnType<typeof jobWrites>): void => {
                    for (const { collection, key, record } of writes) {
                        if (record === undefined) rows.delete(`${collection}/${key}`);
                        else rows.set(`${collection}/${key}`, record);
                    }
                };
                let job: Job = { ...FRESH, backfill };
                write(jobWrites(undefined, job));
                for (const step of events) {
                    const next = transition(job, step);
                    expect(next?.state, `${step.type} from ${job.state}`).to.equal(expected(job, step));
                    if (next === undefined) continue;
                    expect(next.backfill).to.equal(job.backfill && step.type !== "hasten");
                    if (step.type === "hasten" && job.dueAt !== undefined)
                        expect(next.dueAt, "never later").to.equal(Math.min(job.dueAt, step.dueAt));
                    const mayGoOn = step.type === "retry" || (job.state === "failed" && step.type === "cancel");
                    if (isFinal(job.state) && !mayGoOn) expect(next.state).to.equal(job.state);
                    // What the room was told of a failure, and the row of its end, stay as they are.
                    if (job.state === "failed" && next.state === "cancelled")
                        expect(next).to.include({ hadFailed: true, finishedAt: job.finishedAt, error: job.error });
                    else expect(next.hadFailed).to.equal(job.hadFailed);
                    write(jobWrites(job, next));
                    job = next;
                    const lists = [...rows.keys()].map((key) => key.slice(0, key.indexOf("/")));
                    const own = lists.filter((list) => [SCHEDULE, WAITING, HELD, FOLLOWING].includes(list));
                    expect(own, `${step.type} to ${job.state}`).to.deep.equal([listOf(job)].filter(Boolean));
                    const kept = JSON.stringify({ ...job, encryption: undefined });
                    if (["done", "cancelled", "replaced"].includes(job.state)) expect(kept).not.to.contain("secret");
                    if (isFinal(job.state)) expect(job.presigned).to.equal(undefined);
                    if (job.state === "done") expect(job).to.include({ notBefore: undefined, error: undefined });
                    if (job.state === "transferring") expect(job.notBefore).to.equal(undefined);
                }
            }),
            1500,
        );
    });
});
