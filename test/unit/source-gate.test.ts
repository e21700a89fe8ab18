import { expect } from "chai";
import { MediaError } from "../../src/errors.ts";
import { successorOf } from "../../src/bridge/successor.ts";
import type { Job } from "../../src/uploads/job.ts";
import { SourceGate, sourceKeyOf } from "../../src/uploads/source-gate.ts";
import type { SourceDescription } from "../../src/uploads/sources/source.ts";
import { someJob } from "../support/job.ts";

const jobOf = (source: SourceDescription): Job => someJob({ source });
const url = (text: string): Job => jobOf({ kind: "http", url: text });
const slack = jobOf({ kind: "connector", connector: "slack", ref: 1 });
const FILES = "https://files.example.org";
const file = url(`${FILES}/a?b#c`);

describe("the gate before a source", () => {
    let now = 1000;
    const gateWith = (limits: ConstructorParameters<typeof SourceGate>[0]): SourceGate => {
        now = 1_000_000;
        return new SourceGate(limits, () => now);
    };

    it("knows a source by its connector or its origin, and gives it a key that the journal can hold", () => {
        expect(sourceKeyOf(file)).to.equal(FILES);
        expect(sourceKeyOf(url("HTTPS://user:secret@Files.Example.org:443/x"))).to.equal(FILES);
        expect(sourceKeyOf(slack)).to.equal("slack");
        expect(sourceKeyOf(jobOf({ kind: "file", path: "/a" }))).to.equal(undefined);
        expect(sourceKeyOf(jobOf({ kind: "spool", name: "a" }))).to.equal(undefined);
        for (const connector of ["two words", "nul\0", "é", "x".repeat(255) + "yz"])
            expect(sourceKeyOf(jobOf({ kind: "connector", connector, ref: 1 }))).to.match(/^#[\w-]{43}$/);
        expect(sourceKeyOf(url(`https://${"x".repeat(5000)}/`))).to.have.length.below(257);
    });

    it("keeps each source's own limits, and the default's for the others", () => {
        const gate = gateWith({ slack: { concurrency: 2 }, [FILES]: { perSecond: 4 }, default: { concurrency: 1 } });
        const leave = gate.enter(slack);
        expect(gate.closedUntil("slack")).to.equal(0);
        gate.enter(slack);
        expect(gate.closedUntil("slack")).to.equal(Number.POSITIVE_INFINITY);
        leave();
        expect(gate.closedUntil("slack")).to.equal(0);

        for (let start = 0; start < 3; start++) {
            expect(gate.closedUntil(FILES)).to.equal(0);
            gate.enter(file)();
            expect(gate.closedUntil(FILES)).to.equal(now + 250);
            now += 250;
        }
        const other = url("https://other.example/");
        gate.enter(other);
        expect(gate.closedUntil("https://other.example")).to.equal(Number.POSITIVE_INFINITY);
        expect(gate.closedUntil("https://third.example")).to.equal(0);
    });

    it("counts an opening and the transfer it is kept for once, and a place that was kept in vain is free again", () => {
        const gate = gateWith({ default: { concurrency: 1, perSecond: 1 } });
        const { source } = file;
        let drops = 0;
        const place = gate.enterAhead(source);
        expect(gate.enterAhead(source)).to.equal(undefined);
        const giveBack = gate.keepFor(file, place ?? expect.fail(), () => drops++);
        const other = { ...file, id: "other" };
        expect(gate.closedFor(other)).to.equal(Number.POSITIVE_INFINITY);
        expect(gate.closedFor(file)).to.equal(0);
        const leave = gate.enter(file);
        expect(giveBack(), "the transfer has it").to.equal(false);
        gate.claimPlace(other);
        expect(drops).to.equal(0);
        expect(gate.closedFor(file)).to.equal(Number.POSITIVE_INFINITY);
        expect([leave(), leave()]).to.deep.equal([true, false]);
        expect(gate.closedFor(other)).to.equal(now + 1000);

        now += 1000;
        const again = gate.keepFor(file, gate.enterAhead(source) ?? expect.fail(), () => again());
        now += 1000;
        gate.claimPlace(slack);
        expect(gate.closedFor(other)).to.equal(Number.POSITIVE_INFINITY);
        gate.claimPlace(other);
        expect(gate.closedFor(other)).to.equal(0);
        expect(again()).to.equal(false);
        gate.enter(other);
        expect(gate.closedFor(file)).to.equal(Number.POSITIVE_INFINITY);
    });

    /** How long each of the same troubles in a row closes the source. */
    const waitsOf = (gate: SourceGate, error: MediaError): number[] =>
        Array.from({ length: 12 }, () => {
            const leave = gate.enter(file);
            const until = gate.failed(file, error);
            leave();
            expect(gate.closedUntil(FILES)).to.equal(until);
            const wait = until - now;
            now = until;
            expect(gate.closedUntil(FILES)).to.equal(0);
            return wait;
        });

    it("closes for longer at each trouble, opens for one file, and is open again after an answer", () => {
        const gate = gateWith({});
        for (const [index, wait] of waitsOf(gate, new MediaError("SOURCE_UNAVAILABLE")).entries()) {
            const ceiling = Math.min(300_000, 500 * 2 ** index);
            expect(wait).to.be.within(ceiling / 2, ceiling);
        }
        const leave = gate.enter(file);
        expect(gate.closedUntil(FILES)).to.equal(Number.POSITIVE_INFINITY);
        expect(gate.closedUntil("slack")).to.equal(0);
        gate.succeeded(file);
        expect(gate.closedUntil(FILES)).to.equal(0);
        leave();
    });

    it("in trouble, counts what has begun since: a transfer from before holds nobody up, and has its place all the same", () => {
        const gate = gateWith({ default: { concurrency: 3 } });
        const trouble = (): number => gate.failed(file, new MediaError("SOURCE_UNAVAILABLE"));
        const long = gate.enter(file);
        now = trouble();
        expect(gate.closedUntil(FILES)).to.equal(0);
        const trial = gate.enter(file);
        expect(gate.closedUntil(FILES)).to.equal(Number.POSITIVE_INFINITY);
        expect(gate.answered(file)).to.equal(true);
        expect(gate.answered(file), "nobody waits any more").to.equal(false);
        expect(gate.closedUntil(FILES)).to.equal(0);
        gate.enter(file);
        expect(gate.closedUntil(FILES), "three at once").to.equal(Number.POSITIVE_INFINITY);
        long();
        now = trouble();
        expect(gate.closedUntil(FILES), "the trial is from before this one").to.equal(0);
        const next = gate.enter(file);
        expect(gate.closedUntil(FILES)).to.equal(Number.POSITIVE_INFINITY);
        trial();
        expect(gate.closedUntil(FILES)).to.equal(Number.POSITIVE_INFINITY);
        next();
        expect(gate.closedUntil(FILES)).to.equal(0);
    });

    it("forgets whose turn it was to try with the trouble itself", () => {
        const trouble = (gate: SourceGate): number => gate.failed(file, new MediaError("SOURCE_UNAVAILABLE"));
        for (const recover of [
            (gate: SourceGate) => gate.succeeded(file),
            (gate: SourceGate) => gate.failed(file, new MediaError("SOURCE_NOT_FOUND")),
        ]) {
            const gate = gateWith({});
            now = trouble(gate);
            gate.enter(file);
            recover(gate);
            now = trouble(gate);
            expect(gate.closedUntil(FILES)).to.equal(0);
        }
    });

    it("is not pleased by first bytes of files that then break: the pauses grow until a whole one has come", () => {
        const gate = gateWith({});
        const waitAfter = (answer: (gate: SourceGate) => void): number => {
            const leave = gate.enter(file);
            answer(gate);
            const until = gate.failed(file, new MediaError("SOURCE_UNAVAILABLE"));
            leave();
            const wait = until - now;
            now = until;
            return wait;
        };
        for (let trouble = 0; trouble < 8; trouble++)
            expect(waitAfter(() => gate.answered(file))).to.be.within(250 * 2 ** trouble, 500 * 2 ** trouble);
        expect(waitAfter(() => gate.succeeded(file))).to.be.within(250, 500);
    });

    it("counts one outage once, and honours a told wait whenever it is told", () => {
        const gate = gateWith({});
        for (let i = 0; i < 4; i++) gate.enter(file);
        const first = gate.failed(file, new MediaError("SOURCE_TIMEOUT"));
        expect(gate.failed(file, new MediaError("SOURCE_TIMEOUT"))).to.equal(first);
        const told = gate.failed(file, new MediaError("SOURCE_RATE_LIMITED", { retryAfterMs: 20_000 }));
        expect(told - now).to.be.within(20_000, 20_050);
    });

    it("closes for longer at each trouble also where it is told a short wait each time", () => {
        const error = new MediaError("SOURCE_UNAVAILABLE", { retryAfterMs: 1000 });
        for (const [index, wait] of waitsOf(gateWith({}), error).entries()) {
            const ceiling = Math.min(300_000, 500 * 2 ** index);
            expect(wait).to.be.within(Math.max(1000, ceiling / 2), Math.max(1050, ceiling));
        }
    });

    it("takes a refusal for an answer, and what the homeserver did for none", () => {
        const gate = gateWith({});
        const trouble = (): number => gate.failed(file, new MediaError("SOURCE_UNAVAILABLE"));
        now = trouble();
        gate.enter(file);
        gate.failed(file, new MediaError("HOMESERVER_FAILING"));
        expect(gate.closedUntil(FILES)).to.equal(Number.POSITIVE_INFINITY);
        gate.failed(file, new MediaError("SOURCE_NOT_FOUND"));
        expect(gate.closedUntil(FILES)).to.equal(0);
    });

    it("is not what a job's successor waits for: that one joins the schedule", () => {
        const reservation = {
            contentUri: "mxc://a/c",
            userId: "@a:b",
            createdAt: 0,
            expiresAt: undefined,
            presigned: undefined,
        };
        expect(successorOf({ ...file, dueAt: 1, heldFor: FILES }, reservation, false, 2)).to.include({
            dueAt: 1,
            heldFor: undefined,
        });
    });

    it("remembers a bounded number of sources, and those it cannot remember are open", () => {
        const gate = gateWith({ default: { concurrency: 1 } });
        for (let i = 0; i < 1500; i++) gate.enter(url(`https://${i}.example/`));
        expect(gate.closedUntil("https://999.example")).to.equal(Number.POSITIVE_INFINITY);
        expect(gate.closedUntil("https://1000.example")).to.equal(0);
    });
});
