import { expect } from "chai";
import { someBytes } from "../support/remote.ts";
import { until } from "../support/until.ts";
import { gatedFile } from "./harness/gate.ts";
import { type Exchange, isCreate, isSend, isUpload } from "./harness/proxy.ts";
import { MessageStream } from "./harness/stream.ts";
import { useSynapse } from "./harness/world.ts";

/** Kills the component at moments that the proxy sees, starts it again on the same data, and looks at the rooms. */
describe("Synapse: kill -9 of the component", () => {
    const use = useSynapse();

    it("during an upload: it begins anew and ends at the address that the room has seen", async () => {
        const world = use();
        const ann = world.ghost("kill_upload");
        const stream = new MessageStream(world, await world.room(ann));
        const bytes = someBytes(2_000_000);
        const gate = gatedFile(world.remote, bytes, { ahead: 1_000_000 });
        stream.text(ann).photo(ann, bytes, gate.url).text(ann);
        const dataDir = await world.dataDir();
        const first = await world.componentProcess(dataDir, stream.messages);
        await stream.allSent();
        await until(() => first.sawSent(stream.messages[2]?.id ?? "") && world.proxy.exchanges.some(isUpload));
        await first.kill();
        expect(world.proxy.statuses(isUpload)).to.deep.equal([undefined]);

        gate.open();
        await world.componentProcess(dataDir, []);
        await stream.assertArrived();
        expect(world.proxy.statuses(isUpload)).to.deep.equal([undefined, 200]);
        expect(gate.asked).to.equal(2);
    });

    it("between an upload and its answer: the next try finds the file there", async () => {
        const world = use();
        const ann = world.ghost("kill_uploaded");
        const stream = new MessageStream(world, await world.room(ann));
        stream.photo(ann).text(ann);
        const dataDir = await world.dataDir();
        const killing = killAt(isUpload, "after");
        const first = await world.componentProcess(dataDir, stream.messages);
        await killing(first);

        const second = await world.componentProcess(dataDir, []);
        await until(() => second.sawJob(stream.messages[0]?.id ?? "", "done"));
        await stream.assertArrived();
        expect(world.proxy.statuses(isUpload)).to.deep.equal([200, 409]);
    });

    it("between reserving and sending: the event goes out with the address that was reserved", async () => {
        const world = use();
        const ann = world.ghost("kill_reserved");
        const stream = new MessageStream(world, await world.room(ann));
        stream.photo(ann).text(ann).photo(ann);
        const dataDir = await world.dataDir();
        // None kept ahead, so that every reservation counted is one that a message needed.
        const options = { reserveAhead: 0 };
        const killing = killAt(isSend, "before");
        const first = await world.componentProcess(dataDir, stream.messages, options);
        await killing(first);
        expect(world.proxy.statuses(isCreate)).to.deep.equal([200]);

        await world.componentProcess(dataDir, stream.messages, options);
        await stream.assertArrived();
        expect(world.proxy.statuses(isCreate)).to.deep.equal([200, 200]);
    });

    it("before the answer to a reservation is heard: another one is made, nothing else is different", async () => {
        const world = use();
        const ann = world.ghost("kill_reserving");
        const stream = new MessageStream(world, await world.room(ann));
        stream.photo(ann).text(ann);
        const dataDir = await world.dataDir();
        const killing = killAt(isCreate, "after");
        const first = await world.componentProcess(dataDir, stream.messages);
        await killing(first);

        await world.componentProcess(dataDir, stream.messages);
        await stream.assertArrived();
    });

    for (const redelivered of [false, true]) {
        const how = redelivered ? "and the network delivers all of it again" : "with nothing but the journal";
        it(`between sending and journaling, ${how}: every message once and in order`, async () => {
            const world = use();
            const [ann, ben] = [world.ghost(`kill_sent_a${redelivered}`), world.ghost(`kill_sent_b${redelivered}`)];
            const stream = new MessageStream(world, await world.room(ann, ben));
            stream.text(ann).photo(ben).text(ben).photo(ann).text(ann).photo(ann);
            const last = stream.messages.at(-1)?.id ?? "";
            const dataDir = await world.dataDir();
            // Each run finds the message of the run before in the room, sends the next, and dies before it hears so.
            for (let run = 0; run < stream.messages.length; run++) {
                const killing = killAt(isSend, "after");
                const messages = run === 0 || redelivered ? stream.messages : [];
                const child = await world.componentProcess(dataDir, messages);
                // The last one's job is told when it is journaled, and so are all those before it.
                await killing(child, () => run > 0 || child.sawJob(last));
            }
            await world.componentProcess(dataDir, redelivered ? stream.messages : []);
            await stream.assertArrived();
            const sends = world.proxy.exchanges.filter(isSend);
            expect(sends.filter(({ status, dropped }) => status === 200 && dropped)).to.have.length(6);
            expect(sends).to.have.length(6);
        });
    }

    it("ten times at any moment: every message once and in order", async () => {
        const world = use();
        const ghosts = ["a", "b", "c"].map((name) => world.ghost(`kill_any_${name}`));
        const streams = await Promise.all(
            [1, 2].map(async () => new MessageStream(world, await world.room(...ghosts))),
        );
        for (let index = 0; index < 60; index++) {
            const stream = streams[index % 2];
            const ghost = ghosts[index % 3] ?? "";
            if (index % 4 === 0) stream?.photo(ghost, someBytes(400_000));
            else stream?.text(ghost);
        }
        const messages = streams.flatMap((stream) => stream.messages);
        const dataDir = await world.dataDir();
        for (let round = 0; round < 10; round++) {
            // After so many exchanges more, wherever in its work the component then is.
            const enough = world.proxy.exchanges.length + 3 + round * 2;
            const child = await world.componentProcess(dataDir, messages);
            await until(() => world.proxy.exchanges.length >= enough || child.sawSent(messages.at(-1)?.id ?? ""));
            await child.kill();
        }
        await world.componentProcess(dataDir, messages);
        for (const stream of streams) await stream.assertArrived();
    });

    /**
     * Lets the proxy hold the exchange of this kind, before it is passed on or after Synapse has answered it, until the
     * process is dead.     */
    function killAt(kind: (exchange: Exchange) => boolean, moment: "before" | "after") {
        const { proxy } = use();
        let release: () => void = () => {};
        const dead = new Promise<void>((resolve) => {
            release = resolve;
        });
        let reached = false;
        const hold = async (exchange: Exchange): Promise<"drop" | undefined> => {
            if (!kind(exchange)) return undefined;
            reached = true;
            await dead;
            return "drop";
        };
        proxy.rules = { [moment]: hold };
        return async (child: { kill(): Promise<void> }, also: () => boolean = () => true): Promise<void> => {
            await until(() => reached && also(), { limitMs: 30_000 });
            await child.kill();
            proxy.rules = {};
            release();
        };
    }
});
