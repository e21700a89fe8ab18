import { expect } from "chai";
import { textMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { until } from "../support/until.ts";
import { gatedFile } from "./harness/gate.ts";
import { type Exchange, isSend, isUpload } from "./harness/proxy.ts";
import { bodies } from "./harness/room-view.ts";
import { MessageStream } from "./harness/stream.ts";
import { useSynapse } from "./harness/world.ts";

/** A lock on an address that Synapse held when it died lasts two minutes, and the upload waits for that. */
const BEYOND_A_LOCK_MS = 150_000;

describe("Synapse: kill -9 of Synapse", () => {
    const use = useSynapse();

    it("in the middle of messages and uploads, twice: all arrive once, in order, with their bytes", async function () {
        this.timeout(2 * BEYOND_A_LOCK_MS);
        const world = use();
        const ghosts = ["a", "b", "c"].map((name) => world.ghost(`down_${name}`));
        const streams = await Promise.all(
            [1, 2].map(async () => new MessageStream(world, await world.room(...ghosts))),
        );
        const gates = Array.from({ length: 4 }, () => {
            const bytes = someBytes(3_000_000);
            return { bytes, file: gatedFile(world.remote, bytes, { ahead: 2_000_000 }) };
        });
        for (let index = 0; index < 80; index++) {
            const stream = streams[index % 2];
            const ghost = ghosts[index % 3] ?? "";
            const gate = gates[index / 20];
            if (gate !== undefined) stream?.photo(ghost, gate.bytes, gate.file.url);
            else if (index % 5 === 1) stream?.photo(ghost, someBytes(200_000));
            else stream?.text(ghost);
        }
        // Straight to Synapse: while it is down, connections are refused and not just broken.
        const media = await world.component({}, { homeserverUrl: world.synapse.url });
        let sent = 0;
        const sends = streams
            .flatMap(({ messages }) => messages)
            .map((message) => media.send(message).then(() => sent++));
        for (const enough of [15, 45]) {
            await until(() => sent >= enough && gates.some(({ file }) => file.asked > 0));
            await world.synapse.kill();
            await world.synapse.start();
        }
        for (const { file } of gates) file.open();
        await Promise.all(sends);
        for (const stream of streams) await stream.assertArrived({ downloadMs: BEYOND_A_LOCK_MS });
    });

    it("before the answer to a send is heard: found in the room and not sent again, though Synapse forgot its transactions", async () => {
        const world = use();
        const ann = world.ghost("forgotten_send");
        const roomId = await world.room(ann);
        const media = await world.component();
        world.proxy.rules = killOnce(isSend);
        const expected = ["first", "second", "third"];
        const sends = expected.map((body) => media.send(textMessage(roomId, ann, body)));
        await until(() => world.proxy.exchanges.some(({ dropped }) => dropped));
        await world.synapse.start();
        await Promise.all(sends);
        expect(await bodies(world, roomId)).to.deep.equal(expected);
        // Proof that it was the look that saved it.
        expect(world.proxy.statuses(isSend)).to.deep.equal([200, 200, 200]);
        const looks = world.proxy.exchanges.filter(({ path, status }) => path.endsWith("/messages") && status === 200);
        expect(looks).to.have.length(1);
    });

    it("before the answer to a send is heard, in a room where others then said a lot: found all the same", async () => {
        const world = use();
        const ann = world.ghost("busy_room");
        const roomId = await world.room(ann);
        const media = await world.component();
        let goOn: () => void = () => {};
        const othersHaveSpoken = new Promise<void>((resolve) => {
            goOn = resolve;
        });
        let isDown = false;
        const { after } = killOnce(isSend);
        world.proxy.rules = {
            async before() {
                if (isDown) await othersHaveSpoken;
                return undefined;
            },
            after(exchange) {
                isDown ||= isSend(exchange);
                return after(exchange);
            },
        };
        const sending = media.send(textMessage(roomId, ann, "mine"));
        await until(() => world.proxy.exchanges.some(({ dropped }) => dropped));
        await world.synapse.start();
        const room = `/v3/rooms/${encodeURIComponent(roomId)}`;
        for (let index = 0; index < 340; index++) {
            const content = { msgtype: "m.text", body: "another's" };
            await world.request(world.bot, "PUT", `${room}/send/m.room.message/other-${index}`, content);
        }
        goOn();
        await sending;
        expect((await bodies(world, roomId)).filter((body) => body === "mine")).to.have.length(1);
    });

    it("before the answer to an upload is heard: done at the same address", async function () {
        this.timeout(BEYOND_A_LOCK_MS);
        const world = use();
        const ann = world.ghost("forgotten_upload");
        const stream = new MessageStream(world, await world.room(ann)).photo(ann, someBytes(500_000));
        const media = await world.component();
        world.proxy.rules = killOnce(isUpload);
        const [message] = stream.messages;
        const sending = message && media.send(message);
        await until(() => world.proxy.exchanges.some(({ dropped }) => dropped));
        await world.synapse.start();
        const end = await (await sending)?.uploads[0]?.done;
        expect(end?.state).to.equal("done");
        expect(world.proxy.statuses(isUpload).filter((status) => status === 200)).to.have.length(1);
        await stream.assertArrived();
    });

    /** Kills Synapse when it has answered the first exchange of this kind, and loses that answer. */
    function killOnce(kind: (exchange: Exchange) => boolean) {
        const { synapse } = use();
        let done = false;
        const after = async (exchange: Exchange): Promise<"drop" | undefined> => {
            if (done || !kind(exchange)) return undefined;
            done = true;
            await synapse.kill();
            return "drop";
        };
        return { after };
    }
});
