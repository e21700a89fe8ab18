import { setImmediate as turn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect } from "chai";
import { counted } from "../../src/uploads/counted.ts";
import { asMediaError } from "../../src/errors.ts";
import { RightOfWay } from "../../src/right-of-way.ts";
import { until } from "../support/until.ts";

describe("the right of way", () => {
    /** A piece of work that ends when it is told to. */
    function held() {
        let end = (): void => {};
        const ended = new Promise<void>((resolve) => {
            end = resolve;
        });
        return { work: () => ended, end };
    }

    async function* pieces(count: number): AsyncGenerator<Uint8Array> {
        for (let index = 0; index < count; index++) yield Buffer.alloc(256 * 1024, index);
    }

    it("is free where no message is under way", () => {
        expect(new RightOfWay().free()).to.equal(undefined);
    });

    it("belongs to messages: a transfer's next piece comes when the last of them is through", async () => {
        const way = new RightOfWay();
        const [one, other] = [held(), held()];
        const through = [way.first(one.work), way.first(other.work)];
        const limits = { size: undefined, maxBytes: Number.POSITIVE_INFINITY };
        const body = counted(pieces(3), limits, {}, { way, explain: asMediaError });
        let came = false;
        const began = performance.now();
        const piece = body.next().then(() => {
            came = true;
            return performance.now() - began;
        });
        one.end();
        await turn();
        // A loaded machine may take longer over one turn than a piece waits at most.
        if (performance.now() - began < 8) expect(came).to.equal(false);
        other.end();
        await Promise.all(through);
        await piece;
        expect(way.free()).to.equal(undefined);
        await body.return(undefined);
    });

    it("is had in the end however long a message takes, also when it fails", async () => {
        const way = new RightOfWay();
        const endless = held();
        const through = way.first(endless.work);
        const began = performance.now();
        await way.free();
        expect(performance.now() - began).to.be.at.least(5);
        endless.end();
        await through;
        await way.first(() => Promise.reject(new Error("refused"))).catch(() => {});
        await way.free();
        expect(way.free()).to.equal(undefined);
    });

    it("stays with a message from one of its steps to the next", async () => {
        const way = new RightOfWay();
        let passed = false;
        await way.first(async () => {});
        const free = way.free();
        expect(free, "free at once").not.to.equal(undefined);
        const waiting = (async () => {
            await free;
            passed = true;
        })();
        const next = held();
        const through = way.first(next.work);
        const began = performance.now();
        await turn();
        if (performance.now() - began < 8) expect(passed).to.equal(false);
        next.end();
        await Promise.all([through, waiting]);
    });

    it("keeps nothing of a transfer that has passed, also where messages never pause", async () => {
        setFlagsFromString("--expose-gc");
        const collect = runInNewContext("gc") as () => void;
        const way = new RightOfWay();
        const endless = held();
        const through = way.first(endless.work);
        const passed: WeakRef<Promise<void>>[] = [];
        for (let index = 0; index < 5; index++) {
            const free = way.free();
            if (free === undefined) throw new Error("it is free");
            passed.push(new WeakRef(free));
            await free;
        }
        await until(() => {
            collect();
            return passed.slice(0, -1).every((free) => free.deref() === undefined);
        });
        endless.end();
        await through;
    });

    it("lets all transfers pass at once when the way is free", async () => {
        const way = new RightOfWay();
        const message = held();
        const through = way.first(message.work);
        const passed: Promise<void>[] = [];
        for (let index = 0; index < 3; index++) passed.push(way.free() ?? Promise.reject(new Error("it is not free")));
        message.end();
        await through;
        await Promise.all(passed);
    });
});
