import { Readable } from "node:stream";
import { expect } from "chai";
import { BridgeMedia, type MediaError } from "../../src/index.ts";
import { download } from "../support/download.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";
import { intentOf } from "../support/world.ts";

const PNG = Buffer.concat([Buffer.from("89504E470D0A1A0A0000000D49484452", "hex"), someBytes(100)]);

describe("pictures", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    const requests = (part: string): number =>
        world.homeserver.requests.filter(({ method, path }) => method === "PUT" && path.includes(part)).length;

    it("of a user: set once the file is there, by one transfer and one request, however often it is asked for", async () => {
        const media = world.component();
        await media.start();
        const bytes = someBytes(5000);
        const source = { kind: "http", url: remote.file(bytes) } as const;
        const uris = await Promise.all(Array.from({ length: 5 }, () => media.avatar(alice, source)));
        const shown = await world.request(alice, "GET", `/profile/${encodeURIComponent(alice)}/avatar_url`);
        expect(new Set(uris)).to.deep.equal(new Set([shown["avatar_url"]]));
        const { status, body } = await download(world.homeserver, uris[0] ?? "", 0);
        expect(status).to.equal(200);
        expect(body.equals(bytes)).to.equal(true);
        const [profile, upload] = ["/avatar_url", "/upload/"].map(requests);
        expect([profile, upload]).to.deep.equal([1, 1]);
        const order = world.homeserver.requests.filter(({ method }) => method === "PUT").map(({ path }) => path);
        expect(order.at(-1)).to.contain("/avatar_url");
    });

    it("of a room: its event's id is believed of no message, where the answer comes twice", async () => {
        const media = world.component();
        await media.start();
        await media.roomAvatar(roomId, { kind: "buffer", data: PNG });
        const set = world.homeserver.events(roomId).find(({ type }) => type === "m.room.avatar");
        let isFirst = true;
        world.homeserver.intercept(({ path }) => {
            if (!path.includes("/send/") || !isFirst) return undefined;
            isFirst = false;
            return { status: 200, body: { event_id: set?.event_id } };
        });
        const { eventId } = await media.send(textMessage(roomId, alice, "hello"));
        const said = world.homeserver.events(roomId).find(({ type }) => type === "m.room.message");
        expect(eventId).to.equal(said?.event_id);
    });

    it("of a user: another one replaces it, the calls keep their order, and the first may come back", async () => {
        const media = world.component();
        await media.start();
        const [one, two] = [someBytes(3000), someBytes(10)].map((data) => ({ kind: "buffer", data }) as const);
        if (one === undefined || two === undefined) throw new Error("two files");
        const uris = await Promise.all([media.avatar(alice, one), media.avatar(alice, two), media.avatar(alice, one)]);
        expect(uris[0]).to.equal(uris[2]).and.not.equal(uris[1]);
        const shown = await world.request(alice, "GET", `/profile/${encodeURIComponent(alice)}/avatar_url`);
        expect(shown["avatar_url"]).to.equal(uris[2]);
        expect(requests("/upload/")).to.equal(2);
    });

    for (const [whose, set] of [
        ["user", "/avatar_url"],
        ["room", "/m.room.avatar/"],
    ] as const)
        it(`of a ${whose}: a request that breaks off, or is answered by a proxy, is repeated`, async () => {
            const media = world.component();
            await media.start();
            const troubles = [
                { drop: "before" },
                { status: 503, body: {} },
                { status: 404, body: "404 page not found" },
            ] as const;
            let count = 0;
            world.homeserver.intercept(({ method, path }) =>
                method === "PUT" && path.includes(set) ? troubles[count++] : undefined,
            );
            const source = { kind: "buffer", data: PNG } as const;
            await (whose === "user" ? media.avatar(alice, source) : media.roomAvatar(roomId, source));
            expect(count).to.equal(troubles.length + 1);
        });

    for (const when of ["in the same process", "after a restart"])
        it(`of a user: one that the homeserver fails on does not keep the next one waiting, ${when}`, async () => {
            let media = world.component();
            await media.start();
            let tries = 0;
            const stop = world.homeserver.intercept(({ path }) => {
                if (!path.includes("/avatar_url")) return undefined;
                tries++;
                return { status: 500, body: { errcode: "M_UNKNOWN" } };
            });
            const refused = media
                .avatar(alice, { kind: "buffer", data: PNG })
                .catch(({ code }: MediaError): string => code);
            await until(() => tries > 0);
            if (when === "after a restart") {
                await media.close();
                expect(await refused).to.equal("CLOSED");
                media = world.component();
                await media.start();
                await until(() => tries > 1);
            }
            const next = media.avatar(alice, { kind: "buffer", data: someBytes(10) });
            // It waits by itself now, behind nobody.
            await until(() => requests("/upload/") === 2);
            stop();
            const shown = () => world.request(alice, "GET", `/profile/${encodeURIComponent(alice)}/avatar_url`);
            const uri = await next;
            expect((await shown())["avatar_url"]).to.equal(uri);
            expect(await refused).to.equal(when === "after a restart" ? "CLOSED" : "HOMESERVER_FAILING");
        });

    it("of a ghost that the homeserver does not know yet", async () => {
        const media = world.component();
        await media.start();
        const ghost = world.ghost("new");
        const uri = await media.avatar(ghost, { kind: "buffer", data: someBytes(10) });
        const shown = await world.request(alice, "GET", `/profile/${encodeURIComponent(ghost)}/avatar_url`);
        expect(shown["avatar_url"]).to.equal(uri);
    });

    it("shares its file with messages by key", async () => {
        const media = world.component();
        await media.start();
        const source = { kind: "http", url: remote.file(someBytes(100)) } as const;
        const sent = await media.send(photoMessage(roomId, alice, source, {}, { dedupeKey: "user/7/v1" }));
        const uri = await media.avatar(alice, source, { dedupeKey: "user/7/v1" });
        expect(uri).to.equal((await sent.uploads[0]?.done)?.contentUri);
        expect(requests("/upload/")).to.equal(1);
    });

    it("of a room: as its bot, or as a sender who may", async () => {
        const media = world.component();
        await media.start();
        const data = someBytes(2000);
        const uri = await media.roomAvatar(roomId, { kind: "buffer", data }, { mimetype: "image/png" });
        await media.roomAvatar(roomId, { kind: "buffer", data }, { mimetype: "image/png" });
        const path = `/rooms/${encodeURIComponent(roomId)}/state/m.room.avatar`;
        expect(await world.request(world.bot, "GET", path)).to.deep.equal({
            url: uri,
            info: { mimetype: "image/png", size: data.length },
        });
        expect(requests("/state/m.room.avatar")).to.equal(1);
        const refused = media.roomAvatar(roomId, { kind: "buffer", data: someBytes(5) }, { sender: alice });
        expect(await refused.catch(({ code }: MediaError) => code)).to.equal("FORBIDDEN");
    });

    it("is a picture: a page or another kind of file is not set, also where no type is named", async () => {
        const media = world.component({
            maxAttempts: 2,
            connectors: { network: { open: async (ref) => opened(ref) } },
        });
        const answers: Record<string, Buffer> = {
            page: Buffer.from("<!DOCTYPE html><title>Sorry</title>"),
            json: Buffer.from('{"ok":false,"error":"expired"}'),
            zip: Buffer.concat([Buffer.from("504B030414000000080000", "hex"), someBytes(9000)]),
        };
        const opened = (ref: unknown) => ({ stream: Readable.from([answers[String(ref)]]) });
        await media.start();
        const codes: unknown[] = [];
        for (const [name, bytes] of Object.entries(answers)) {
            const type = name === "zip" ? undefined : "application/octet-stream";
            const url = remote.on(`/${name}`, (_request, response) => {
                response.writeHead(200, type === undefined ? {} : { "content-type": type }).end(bytes);
            });
            for (const source of [
                { kind: "http", url } as const,
                { kind: "buffer", data: bytes } as const,
                { kind: "connector", connector: "network", ref: name } as const,
            ]) {
                codes.push(await media.avatar(alice, source).catch(({ code }: MediaError) => code));
                codes.push(await media.roomAvatar(roomId, source).catch(({ code }: MediaError) => code));
            }
        }
        const announced = remote.file(someBytes(100), "text/html; charset=utf-8");
        codes.push(await media.avatar(alice, { kind: "http", url: announced }).catch(({ code }: MediaError) => code));
        expect(codes).to.deep.equal(Array.from({ length: 19 }, () => "SOURCE_TYPE_MISMATCH"));
        expect([requests("/avatar_url"), requests("/state/m.room.avatar")]).to.deep.equal([0, 0]);

        const pictures = [PNG, Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'), someBytes(50)];
        for (const data of pictures) expect(await media.avatar(alice, { kind: "buffer", data })).to.match(/^mxc:/);
    });

    it("whose file failed for good after a restart keeps no other one waiting", async () => {
        const media = world.component();
        await media.start();
        const url = remote.on("/failing", (_request, response) => response.writeHead(503).end());
        const first = media.avatar(alice, { kind: "http", url }).catch(({ code }: MediaError) => code);
        await until(() => remote.requests.length > 0);
        await media.close();
        expect(await first).to.equal("CLOSED");

        const next = world.component({ maxAttempts: 1 });
        await next.start();
        const uri = await next.avatar(alice, { kind: "buffer", data: PNG });
        const shown = await world.request(alice, "GET", `/profile/${encodeURIComponent(alice)}/avatar_url`);
        expect(shown["avatar_url"]).to.equal(uri);
        const failed: unknown[] = [];
        for await (const { error } of next.jobs({ state: "failed" })) failed.push(error?.code);
        expect(failed).to.deep.equal(["SOURCE_UNAVAILABLE"]);
    });

    for (const [what, answer] of [
        ["asks for an address", { delayMs: 300 }],
        [
            "waits for one",
            { status: 429, body: { errcode: "M_LIMIT_EXCEEDED", error: "wait", retry_after_ms: 600_000 } },
        ],
    ] as const) {
        it(`is set by the next start when close() comes while it ${what}`, async () => {
            let asked = 0;
            const stop = world.homeserver.intercept(({ path }) =>
                path.includes("/media/v1/create") ? (asked++, answer) : undefined,
            );
            const media = world.component({ reserveAhead: 0 });
            await media.start();
            const setting = media.avatar(alice, { kind: "buffer", data: PNG }).catch(({ code }: MediaError) => code);
            await until(() => asked > 0);
            await media.close();
            expect(await setting).to.equal("CLOSED");
            stop();
            const next = world.component();
            await next.start();
            const shown = () =>
                world.request(alice, "GET", `/profile/${encodeURIComponent(alice)}/avatar_url`).then(
                    (profile) => profile["avatar_url"] as string | undefined,
                    () => undefined,
                );
            expect((await download(world.homeserver, await until(shown))).body.equals(PNG)).to.equal(true);
        });
    }

    it("of a ghost whose registration never ends keeps no close() waiting", async () => {
        let isAsked = false;
        const ensureRegistered = (): Promise<never> => {
            isAsked = true;
            return new Promise(() => {});
        };
        const bridge = {
            getIntent: (userId?: string) => ({ ...intentOf(world.bridge, userId ?? world.bot), ensureRegistered }),
        };
        world.homeserver.intercept(({ path }) =>
            path.endsWith("/avatar_url") ? { status: 403, body: { errcode: "M_FORBIDDEN", error: "no" } } : undefined,
        );
        const media = new BridgeMedia(bridge, { dataDir: world.dataDir, allowPrivateAddresses: true });
        await media.start();
        const setting = media.avatar(alice, { kind: "buffer", data: PNG }).catch(({ code }: MediaError) => code);
        await until(() => isAsked);
        await media.close();
        expect(await setting).to.equal("CLOSED");
    });

    it("of an earlier run is set for as long as it takes, though the homeserver fails", async () => {
        const media = world.component();
        await media.start();
        const stop = world.homeserver.intercept(({ path }) =>
            path.endsWith("/avatar_url") ? { status: 503, body: {} } : undefined,
        );
        const isFailing = ({ path, status }: { path: string; status: number }): boolean =>
            path.endsWith("/avatar_url") && status === 503;
        const failures = (): number => world.homeserver.requests.filter(isFailing).length;
        const url = remote.on("/held", () => {});
        const first = media.avatar(alice, { kind: "http", url }).catch(({ code }: MediaError) => code);
        await until(() => remote.requests.length > 0);
        await media.close();
        expect(await first).to.equal("CLOSED");
        remote.on("/held", (_request, response) => response.end(PNG));

        const next = world.component();
        await next.start();
        await until(() => failures() >= 2);
        stop();
        const shown = () =>
            world.request(alice, "GET", `/profile/${encodeURIComponent(alice)}/avatar_url`).then(
                (answer) => answer["avatar_url"] as string | undefined,
                () => undefined,
            );
        expect((await download(world.homeserver, await until(shown))).body.equals(PNG)).to.equal(true);
    });

    it("says what is wrong with a call, and fails with its file", async () => {
        const media = world.component();
        await media.start();
        const source = { kind: "http", url: `${remote.url}/gone` } as const;
        const wrong = [
            media.avatar("alice", source),
            media.avatar(alice, { kind: "http", url: "ftp://x" }),
            media.avatar(alice, source, { userId: "x" } as never),
            media.roomAvatar("room", source),
            media.roomAvatar(roomId, source, { sender: "bot" }),
            media.avatar(alice, source),
        ].map((call) => call.catch(({ code, field }: MediaError) => `${code} ${field}`));
        expect(await Promise.all(wrong)).to.deep.equal([
            "INVALID_ARGUMENT userId",
            "INVALID_ARGUMENT url",
            "INVALID_ARGUMENT userId",
            "INVALID_ARGUMENT roomId",
            "INVALID_ARGUMENT sender",
            "SOURCE_NOT_FOUND undefined",
        ]);
        expect(requests("/avatar_url")).to.equal(0);
    });
});
