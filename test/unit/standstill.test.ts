import { expect } from "chai";
import { keptOff, lostBetween, readBefore } from "../../src/testing/certify/standstill.ts";

describe("what the certification allows a machine that stands still", () => {
    /** From its times, each with the processor time that was used since the one before. */
    const pulses = (...told: readonly (readonly [at: number, usedMs: number])[]) => {
        let cpuMs = 0;
        return told.map(([at, usedMs]) => ({ at, cpuMs: (cpuMs += usedMs) }));
    };

    it("takes nothing for read that came in the rounds before the newest that was", () => {
        const told = pulses([100, 1], [110, 1], [120, 1], [500, 1], [510, 1]);
        expect(readBefore(121, told)).to.equal(100);
        expect(readBefore(505, told), "through a standstill").to.equal(110);
        expect(readBefore(600, told)).to.equal(120);
        expect(readBefore(115, told), "too few rounds").to.equal(Number.NEGATIVE_INFINITY);
        expect(readBefore(0, [])).to.equal(Number.NEGATIVE_INFINITY);
    });

    it("counts what a process was kept off the processor, not what it has used it for", () => {
        const still = keptOff(pulses([0, 0], [10, 3], [25, 3], [1025, 3], [2025, 990], [2035, 3]));
        expect(lostBetween(still, 0, 2035)).to.be.within(950, 1000);
        expect(lostBetween(still, 1025, 2035), "at work").to.equal(0);
        expect(keptOff([])).to.deep.equal([]);
    });

    it("counts it where it was, and no more of it than lies within", () => {
        const still = [{ from: 100, to: 500, ms: 380 }];
        expect(lostBetween(still, 0, 1000)).to.equal(380);
        expect(lostBetween(still, 0, 200)).to.equal(100);
        expect(lostBetween(still, 450, 1000)).to.equal(50);
        expect(lostBetween(still, 600, 1000)).to.equal(0);
        expect(lostBetween([], 0, 1000)).to.equal(0);
    });
});
