import { expect } from "chai";
import { compiled } from "../../scripts/compiled.ts";
import type * as Kit from "../../src/testing/index.ts";

/**
 * The component on its own store and sources under 200 kills, and the kit on what is not of this repository. `npm run
 * certify` does the same thousands of times.
 */
const KILLS = 200;
const FEWER = 20;

describe("kill -9, by the kit", function () {
    this.timeout(25 * 60_000);
    let kit: typeof Kit;
    before(async () => {
        kit = (await import(new URL("testing/index.js", compiled()).href)) as typeof Kit;
    });

    async function certified(options: Kit.CertifyOptions): Promise<Kit.CertificationReport> {
        const report = await kit.certify(options);
        console.log(report.text);
        const [{ episode } = { episode: 0 }] = report.violations;
        const { store, connector } = options;
        const parts = Object.entries({ store, connector }).map(([name, url]) =>
            url === undefined ? "" : ` --${name} ${url.toString()}`,
        );
        const repeat = `npm run certify -- --seed ${report.seed} --episode ${episode}${parts.join("")}`;
        expect(report.passed, repeat).to.equal(true);
        return report;
    }

    it(`${KILLS} kills at the component's steps and at random instants, on LevelDB`, async () => {
        const { kills, steps, recovery } = await certified({ kills: KILLS });
        expect(kills).to.be.at.least(KILLS);
        expect(recovery.count).to.be.greaterThan(KILLS / 2);
        for (const { step, before, after } of steps) expect(before + after, step).to.be.greaterThan(0);
        // Some moments are rare: a seed may miss one side of a step or two.
        const both = steps.filter(({ before, after }) => before > 0 && after > 0);
        expect(both.length, "steps that were hit before and after").to.be.at.least(steps.length - 2);
    });

    it(`${FEWER} kills with a store of somebody else's`, async () => {
        const store = new URL("log-store.mjs", import.meta.url);
        for (const { name, run } of kit.storeContract((await import(store.href)).default as never)) {
            // It leaves the lock out.
            if (!name.includes("STORE_LOCKED") && !name.includes("when it rejects")) await run();
        }
        await certified({ kills: FEWER, store });
    });

    it(`${FEWER} kills with a connector whose links run out`, async () => {
        await certified({ kills: FEWER, connector: new URL("connector.mjs", import.meta.url) });
    });

    it("finds a store that says it has written what it has not", async () => {
        const store = new URL("forgetful-store.mjs", import.meta.url);
        const { passed, violations } = await kit.certify({ kills: FEWER, store, quietMs: 10_000 });
        expect(passed).to.equal(false);
        expect(violations.map(({ finding }) => finding).join()).to.match(
            /times|not in its room|sent before|is lost|left/,
        );
    });

    it("reports a store whose records cannot be read, and does not reject", async () => {
        const store = new URL("elsewhere-store.mjs", import.meta.url);
        const { passed, violations } = await kit.certify({ seed: 4, episode: 0, store });
        expect(passed).to.equal(false);
        expect(violations.map(({ finding }) => finding).join()).to.include("could not be judged any more: TypeError");
    });
});
