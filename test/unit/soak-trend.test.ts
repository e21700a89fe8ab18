import { expect } from "chai";
import fc from "fast-check";
import { randomOf } from "../../soak/plan.ts";
import { FEWEST_SAMPLES, theilSen, trendOf } from "../../soak/trend.ts";

const BOUND = { absolute: 2, relative: 0.05 };
/** Ten minutes, a sample every five seconds. */
const run = (valueAt: (seconds: number) => number, samples = 120) =>
    Array.from({ length: samples }, (_, index) => ({ seconds: index * 5, value: valueAt(index * 5) }));
const grows = (valueAt: (seconds: number) => number): boolean | undefined => trendOf(run(valueAt), BOUND)?.grows;

describe("a soak's trend", () => {
    const noise = randomOf(1);

    it("is none where a figure stands still, swings, has peaks or falls", () => {
        expect(grows(() => 20)).to.equal(false);
        expect(grows(() => 20 + noise() * 5)).to.equal(false);
        // Swept once a minute.
        expect(grows((seconds) => 20 + (seconds % 60) / 10)).to.equal(false);
        expect(grows((seconds) => (seconds > 500 && seconds % 50 === 0 ? 200 : 20))).to.equal(false);
        expect(grows((seconds) => 40 - seconds / 60)).to.equal(false);
    });

    it("is none of the warming up", () => {
        expect(grows((seconds) => 20 + Math.min(seconds, 280) / 10)).to.equal(false);
    });

    it("is found under noise and saw-teeth", () => {
        expect(grows((seconds) => 20 + seconds / 100)).to.equal(true);
        expect(grows((seconds) => 20 + seconds / 60 + noise() * 5)).to.equal(true);
        expect(grows((seconds) => 20 + seconds / 60 + (seconds % 60) / 10)).to.equal(true);
    });

    it("counts over the second half, against the larger of its bounds", () => {
        const trend = trendOf(
            run((seconds) => 100 + seconds / 60),
            BOUND,
        );
        expect(trend?.growth).to.be.closeTo(295 / 60, 1e-6);
        expect(trend?.allowed).to.be.closeTo(0.05 * (100 + 447.5 / 60), 1e-6);
        expect(trend?.grows).to.equal(false);
    });

    it("needs enough to judge by", () => {
        expect(trendOf([], BOUND)).to.equal(undefined);
        expect(
            trendOf(
                run(() => 1, 2 * FEWEST_SAMPLES - 2),
                BOUND,
            ),
        ).to.equal(undefined);
        expect(
            trendOf(
                run(() => 1, 2 * FEWEST_SAMPLES),
                BOUND,
            )?.grows,
        ).to.equal(false);
    });

    it("is the slope of a line, and moves with it", () => {
        fc.assert(
            fc.property(fc.integer({ min: -50, max: 50 }), fc.integer({ min: -1000, max: 1000 }), (slope, from) => {
                expect(theilSen(run((seconds) => from + slope * seconds, 30))).to.be.closeTo(slope, 1e-6);
            }),
        );
    });
});
