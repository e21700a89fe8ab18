import type { Socket } from "node:net";
import { expect } from "chai";
import { type BridgeLike, BridgeMedia, type MediaError } from "../../src/index.ts";
import { withCrypto } from "../support/crypto.ts";
import { download } from "../support/download.ts";
import { type Answer, type Exchange, FaultGate } from "../support/faults/gate.ts";
import { textMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";
import { plainBridge } from "../support/world.ts";

/**
 * What stands before the homeserver answers one request twice, and from then on each request on that connection gets the
 * answer to the one before it, which looks like its own where both ask for the same.
 */
describe("a connection that is an answer behind", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    let gate: FaultGate;
    let media: BridgeMedia;
    const sockets = new Set<Socket>();
    /** Of the answers, those that were given to the next request. */
    let strayed = 0;

    async function open(
        options: Parameters<typeof openScene>[0] = {},
        onBridge = (bridge: BridgeLike): BridgeLike => bridge,
    ): Promise<void> {
        ({ world, remote, alice, roomId } = await openScene(options));
        gate = await FaultGate.open(world.homeserver.url);
        media = new BridgeMedia(onBridge(plainBridge(gate.url, world.bot)), {
            dataDir: world.dataDir,
            allowPrivateAddresses: true,
        });
        await media.start();
    }

    afterEach(async () => {
        await media.close();
        await gate.close();
        await closeScene({ world, remote });
        sockets.clear();
        strayed = 0;
    });

    function answerTwice(isFirst: (exchange: Exchange) => boolean): void {
        const behind = new WeakMap<Socket, Answer>();
        gate.inject(
            (exchange) => behind.has(exchange.socket) || (sockets.size === 0 && isFirst(exchange)),
            async ({ socket, response, deliver }) => {
                const own = await deliver();
                const before = behind.get(socket);
                if (before !== undefined) strayed++;
                behind.set(socket, own);
                sockets.add(socket);
                const { status, body } = before ?? own;
                response.writeHead(status, { "content-type": "application/json", "content-length": body.length });
                response.end(body);
            },
            Number.POSITIVE_INFINITY,
        );
    }

    const idsIn = (room: string): unknown[] =>
        world.homeserver
            .events(room)
            .filter(({ type }) => type === "m.room.message")
            .map(({ event_id }) => event_id);

    it("has no other request once it has shown it: no event has another's id", async () => {
        await open();
        const others = await Promise.all([world.room(alice), world.room(alice)]);
        answerTwice(({ passage }) => passage.path.includes("/send/"));
        const first = await media.send(textMessage(roomId, alice, "one"));
        // It is told the first one's, and before it asks again the third is sent.
        const second = media.send(textMessage(others[0], alice, "two"));
        await until(() => strayed === 1);
        const third = await media.send(textMessage(others[1], alice, "three"));
        const ids = [first, await second, third].map(({ eventId }) => eventId);
        expect(ids).to.deep.equal([roomId, ...others].flatMap(idsIn));
        expect(strayed).to.equal(1);
    });

    it("nor, where the homeserver has no /create, has a file another's address", async () => {
        await open({ features: { create: false } });
        answerTwice(({ passage }) => passage.path.endsWith("/upload"));
        for (const length of [3000, 4000, 5000]) {
            const data = someBytes(length);
            const { contentUri } = await media.upload({ kind: "buffer", data }, { userId: alice });
            const { body } = await download(world.homeserver, contentUri, 0);
            expect(body.equals(data), `the file of ${length} bytes`).to.equal(true);
        }
        expect(strayed).to.be.greaterThan(0);
    });

    it("nor once it has brought an error, which does not say whose it is", async () => {
        await open();
        const rooms = [roomId, await world.room(alice), await world.room(alice), await world.room(alice)];
        let isFirst = true;
        world.homeserver.intercept(({ path }) => {
            if (!path.includes("/send/") || !isFirst) return undefined;
            isFirst = false;
            return { status: 413, body: { errcode: "M_TOO_LARGE" } };
        });
        answerTwice(({ passage }) => passage.path.includes("/send/"));
        const ids: unknown[] = [];
        for (const [index, room] of rooms.entries()) {
            const sending = media.send(textMessage(room, alice, `text ${index}`));
            ids.push(await sending.then(({ eventId }) => eventId).catch(({ code }: MediaError) => code));
        }
        expect(ids).to.deep.equal(["EVENT_TOO_LARGE", ...rooms.flatMap(idsIn)]);
    });

    it("nor is a room taken for another one that is not encrypted", async () => {
        const crypto = {
            isRoomEncrypted: () => Promise.resolve(false),
            encryptRoomEvent: () => Promise.resolve({ algorithm: "m.megolm.v1.aes-sha2", ciphertext: "sealed" }),
        };
        await open({}, (bridge) => withCrypto(bridge, () => crypto));
        const secret = await world.room(alice);
        const path = `/rooms/${encodeURIComponent(secret)}/state/m.room.encryption/`;
        // Whoever may say so may say more: that is no result of another request.
        await world.request(world.bot, "PUT", path, { algorithm: "m.megolm.v1.aes-sha2", event_id: "$x" });
        // Taken back while it is asked for: nothing else is said on that connection before the next room is.
        let taking: Promise<unknown> | undefined;
        world.homeserver.intercept((request) => {
            if (!request.path.includes("m.room.encryption") || taking !== undefined) return undefined;
            taking = media.cancelMessage("plain");
            return { delayMs: 300 };
        });
        answerTwice(({ passage }) => passage.path.includes("m.room.encryption"));
        await media.send(textMessage(roomId, alice, "plain", { id: "plain" })).catch(() => {});
        await taking;
        await media.send(textMessage(secret, alice, "hidden"));
        expect(JSON.stringify(world.homeserver.events(secret))).not.to.include("hidden");
    });

    it("and a homeserver may give one address to the same bytes, whatever they are called", async () => {
        await open({ features: { create: false } });
        let given: Promise<Answer> | undefined;
        gate.inject(
            ({ passage }) => passage.path.endsWith("/upload"),
            async ({ request, response, deliver }) => {
                const { status, body } = await (given ??= deliver());
                request.resume();
                response.writeHead(status, { "content-type": "application/json", "content-length": body.length });
                response.end(body);
            },
            Number.POSITIVE_INFINITY,
        );
        const source = { kind: "buffer", data: someBytes(3000) } as const;
        const uris: (string | undefined)[] = [];
        for (const mimetype of ["image/png", "application/octet-stream"])
            uris.push((await media.upload(source, { userId: alice, mimetype })).contentUri);
        expect(new Set(uris)).to.have.length(1);
    });
});
