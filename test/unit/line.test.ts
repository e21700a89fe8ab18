import { expect } from "chai";
import { Line } from "../../src/bridge/line.ts";

describe("a room's line", () => {
    /** A commit that the test ends, and a journal that holds what was committed. */
    function journal() {
        const stored: string[] = [];
        let reads = 0;
        const read = async (): Promise<string | undefined> => {
            reads++;
            return stored[0];
        };
        const commit = (id: string) => {
            let succeed = (): void => {};
            let fail = (): void => {};
            const committed = new Promise<void>((resolve, reject) => {
                succeed = () => {
                    stored.push(id);
                    resolve();
                };
                fail = () => reject(new Error("full"));
            });
            return { committed, succeed, fail };
        };
        return { stored, read, commit, reads: () => reads };
    }

    it("is known without reading, in the order of the calls, past what never came into the journal", async () => {
        const { read, commit, reads } = journal();
        const line = new Line(true);
        const commits = ["a", "b", "c"].map((id) => ({ id, ...commit(id) }));
        for (const { id, committed } of commits) line.append(id, committed);
        commits[0]?.succeed();
        expect(await line.first(read)).to.equal("a");
        expect(await line.first(read), "until it is out of the line").to.equal("a");
        line.shift();
        const next = line.first(read);
        // Whatever ends first: the next one is the next one.
        commits[2]?.succeed();
        commits[1]?.fail();
        expect(await next).to.equal("c");
        line.shift();
        expect(await line.first(read)).to.equal(undefined);
        expect(reads()).to.equal(0);
        expect(line.isOver).to.equal(true);
    });

    it("is read from the journal until nothing is left there, and from then on known", async () => {
        const { stored, read, commit, reads } = journal();
        stored.push("left");
        const line = new Line(false);
        const { committed, succeed } = commit("said");
        line.append("said", committed);
        expect(await line.first(read)).to.equal("left");
        stored.shift();
        line.shift();
        // On its way to the journal, which holds nothing: whoever waits for it will ask again.
        expect(await line.first(read)).to.equal(undefined);
        expect(line.isOver, "not known yet").to.equal(false);
        succeed();
        await committed;
        expect(await line.first(read)).to.equal("said");
        stored.shift();
        line.shift();
        expect(await line.first(read)).to.equal(undefined);
        const before = reads();
        expect(await line.first(read)).to.equal(undefined);
        expect(reads(), "no more reading").to.equal(before);
        expect(line.isOver).to.equal(true);
    });

    it("is not taken for known when something was handed over while the journal was asked", async () => {
        const { stored, commit } = journal();
        const line = new Line(false);
        const { committed, succeed } = commit("meanwhile");
        const first = await line.first(async () => {
            line.append("meanwhile", committed);
            return undefined;
        });
        expect(first).to.equal(undefined);
        succeed();
        await committed;
        expect(await line.first(async () => stored[0])).to.equal("meanwhile");
    });
});
