import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { request as httpRequest, type ClientRequest, type IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import { got, type Method } from "got";
import { type Homeserver, type HomeserverOptions, startHomeserver } from "../../src/dev/homeserver/index.ts";

const BRIDGE = { id: "bridge", asToken: "as-token", senderLocalpart: "bridgebot", userNamespaces: ["@ghost_.*"] };
const ALICE = "@ghost_alice:localhost";
const BOB = "@ghost_bob:localhost";
const CLIENT = "/_matrix/client/v3";

interface CallOptions {
    /** Ghost to masquerade as. */
    readonly as?: string | undefined;
    /** `null` for none. @default the appservice's */
    readonly token?: string | null;
    readonly query?: Readonly<Record<string, string | number>>;
    readonly json?: unknown;
    readonly body?: string | Buffer | Readable;
    readonly headers?: Readonly<Record<string, string>>;
}

interface Answer {
    readonly status: number;
    /** The parsed answer, untyped as JSON is; the assertions say what it must be. */
    readonly body: ReturnType<typeof JSON.parse>;
    readonly raw: Buffer;
    readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

const refused = ({ status, body }: Answer): [number, string] => [status, body?.errcode];

describe("embedded homeserver", () => {
    let server: Homeserver;
    let dataDir: string;

    beforeEach(async () => {
        dataDir = await mkdtemp(join(tmpdir(), "dev-homeserver-test-"));
        server = await start();
    });
    afterEach(async () => {
        await server.close();
        await rm(dataDir, { recursive: true, force: true });
    });

    const start = (options: Partial<HomeserverOptions> = {}): Promise<Homeserver> =>
        startHomeserver({ dataDir, appservices: [BRIDGE], ...options });

    async function restart(options: Partial<HomeserverOptions> = {}): Promise<void> {
        await server.close();
        server = await start(options);
    }

    async function call(method: Method, path: string, options: CallOptions = {}): Promise<Answer> {
        const { token = BRIDGE.asToken, as, query, json, body, headers } = options;
        const answer = await got(server.url + path, {
            method,
            headers: { ...(token === null ? {} : { authorization: `Bearer ${token}` }), ...headers },
            searchParams: { ...query, ...(as === undefined ? {} : { user_id: as }) },
            ...(json === undefined ? {} : { json }),
            ...(body === undefined ? {} : { body }),
            responseType: "buffer",
            throwHttpErrors: false,
            retry: { limit: 0 },
        });
        const isJson = answer.headers["content-type"]?.includes("application/json") === true;
        const parsed: unknown = isJson ? JSON.parse(Buffer.from(answer.body).toString()) : undefined;
        return { status: answer.statusCode, body: parsed, raw: Buffer.from(answer.body), headers: answer.headers };
    }

    const register = (username: string, more = {}): Promise<Answer> =>
        call("POST", `${CLIENT}/register`, { json: { type: "m.login.application_service", username, ...more } });

    /** A public room with both ghosts in it. */
    async function room(): Promise<string> {
        const { body } = await call("POST", `${CLIENT}/createRoom`, { json: { preset: "public_chat" } });
        for (const [localpart, userId] of [
            ["ghost_alice", ALICE],
            ["ghost_bob", BOB],
        ] as const) {
            await register(localpart, { inhibit_login: true });
            await call("POST", `${CLIENT}/join/${encodeURIComponent(body.room_id)}`, { as: userId });
        }
        return body.room_id;
    }

    const send = (roomId: string, txnId: string, text: string, options: CallOptions = {}): Promise<Answer> =>
        call("PUT", `${CLIENT}/rooms/${encodeURIComponent(roomId)}/send/m.room.message/${txnId}`, {
            as: ALICE,
            json: { msgtype: "m.text", body: text },
            ...options,
        });

    const texts = (roomId: string): unknown[] =>
        server
            .events(roomId)
            .filter(({ type }) => type === "m.room.message")
            .map(({ content }) => content["body"]);

    async function reserve(options: CallOptions = {}): Promise<{ mxc: string; id: string }> {
        const { status, body } = await call("POST", "/_matrix/media/v1/create", { json: {}, ...options });
        expect(status).to.equal(200);
        return { mxc: body.content_uri, id: body.content_uri.slice("mxc://localhost/".length) };
    }

    const fill = (id: string, body: string | Buffer | Readable, options: CallOptions = {}): Promise<Answer> =>
        call("PUT", `/_matrix/media/v3/upload/localhost/${id}`, { body, ...options });

    const download = (id: string, options: CallOptions = {}): Promise<Answer> =>
        call("GET", `/_matrix/client/v1/media/download/localhost/${id}`, options);

    /** A PUT that declares `size` bytes and whose body the test writes itself. */
    function slowPut(id: string, size: number): ClientRequest {
        const put = httpRequest(`${server.url}/_matrix/media/v3/upload/localhost/${id}`, {
            method: "PUT",
            headers: { authorization: `Bearer ${BRIDGE.asToken}`, "content-length": size },
        });
        put.on("error", () => {});
        return put;
    }

    describe("accounts", () => {
        it("tells a missing token from an unknown one, in the header and in the query", async () => {
            const path = `${CLIENT}/account/whoami`;
            expect(refused(await call("GET", path, { token: null }))).to.deep.equal([401, "M_MISSING_TOKEN"]);
            expect(refused(await call("GET", path, { token: "wrong" }))).to.deep.equal([401, "M_UNKNOWN_TOKEN"]);
            const { body } = await call("GET", path, { token: null, query: { access_token: BRIDGE.asToken } });
            expect(body.user_id).to.equal("@bridgebot:localhost");
        });

        it("lets an appservice masquerade as its own registered ghosts only", async () => {
            const path = `${CLIENT}/account/whoami`;
            expect(refused(await call("GET", path, { as: ALICE }))).to.deep.equal([403, "M_FORBIDDEN"]);
            await register("ghost_alice");
            expect((await call("GET", path, { as: ALICE })).body.user_id).to.equal(ALICE);
            server.createUser("carol");
            const foreign = await call("GET", path, { as: "@carol:localhost" });
            expect(refused(foreign)).to.deep.equal([403, "M_FORBIDDEN"]);
            expect(foreign.body.error).to.match(/cannot masquerade/);
        });

        it("registers a ghost once, and nobody outside the namespace", async () => {
            expect((await register("ghost_alice", { inhibit_login: true })).body).to.deep.equal({ user_id: ALICE });
            expect(refused(await register("ghost_alice"))).to.deep.equal([400, "M_USER_IN_USE"]);
            expect(refused(await register("carol"))).to.deep.equal([400, "M_EXCLUSIVE"]);
        });

        it("keeps users, tokens and profiles across a restart", async () => {
            const carol = server.createUser("carol");
            const path = `${CLIENT}/profile/${encodeURIComponent(carol.userId)}`;
            const named = await call("PUT", `${path}/displayname`, {
                token: carol.accessToken,
                json: { displayname: "Carol" },
            });
            expect(named.status).to.equal(200);
            expect(refused(await call("PUT", `${path}/displayname`, { json: { displayname: "Eve" } }))).to.deep.equal([
                403,
                "M_FORBIDDEN",
            ]);
            await restart();
            expect(server.createUser("carol")).to.deep.equal(carol);
            expect((await call("GET", path, { token: null })).body).to.deep.equal({ displayname: "Carol" });
            const { body } = await call("GET", `${CLIENT}/account/whoami`, { token: carol.accessToken });
            expect(body.user_id).to.equal(carol.userId);
        });
    });

    describe("rooms", () => {
        it("lets people into a public room, and into a private one by invitation only", async () => {
            const carol = server.createUser("carol");
            const { body } = await call("POST", `${CLIENT}/createRoom`, { json: { name: "Private", topic: "Quiet" } });
            const path = `${CLIENT}/rooms/${encodeURIComponent(body.room_id)}`;
            const asCarol = { token: carol.accessToken };
            expect(refused(await call("POST", `${path}/join`, asCarol))).to.deep.equal([403, "M_FORBIDDEN"]);
            expect((await call("POST", `${path}/invite`, { json: { user_id: carol.userId } })).status).to.equal(200);
            expect((await call("POST", `${path}/join`, asCarol)).status).to.equal(200);
            const { body: members } = await call("GET", `${path}/joined_members`, asCarol);
            expect(members.joined).to.have.all.keys(carol.userId, "@bridgebot:localhost");
            expect((await call("GET", `${path}/state/m.room.name/`, asCarol)).body).to.deep.equal({ name: "Private" });
            expect((await call("GET", `${CLIENT}/joined_rooms`, asCarol)).body.joined_rooms).to.deep.equal([
                body.room_id,
            ]);

            expect(
                refused(await call("POST", `${path}/kick`, { ...asCarol, json: { user_id: "@bridgebot:localhost" } })),
            ).to.deep.equal([403, "M_FORBIDDEN"]);
            expect((await call("POST", `${path}/kick`, { json: { user_id: carol.userId } })).status).to.equal(200);
            expect(refused(await call("GET", `${path}/joined_members`, asCarol))).to.deep.equal([403, "M_FORBIDDEN"]);
        });

        it("finds a room by its alias and gives an alias once", async () => {
            const json = { preset: "public_chat", room_alias_name: "lobby" };
            const { body } = await call("POST", `${CLIENT}/createRoom`, { json });
            expect(refused(await call("POST", `${CLIENT}/createRoom`, { json }))).to.deep.equal([400, "M_ROOM_IN_USE"]);
            await restart();
            const { accessToken } = server.createUser("carol");
            const joined = await call("POST", `${CLIENT}/join/${encodeURIComponent("#lobby:localhost")}`, {
                token: accessToken,
            });
            expect(joined.body).to.deep.equal({ room_id: body.room_id });
        });

        it("leaves state to those who have the power", async () => {
            const roomId = await room();
            const path = `${CLIENT}/rooms/${roomId}/state/m.room.topic`;
            expect(refused(await call("PUT", path, { as: ALICE, json: { topic: "x" } }))).to.deep.equal([
                403,
                "M_FORBIDDEN",
            ]);
            expect((await call("PUT", path, { json: { topic: "y" } })).status).to.equal(200);
            expect((await call("GET", path, { as: ALICE })).body).to.deep.equal({ topic: "y" });
        });
    });

    describe("events", () => {
        it("takes messages from members only", async () => {
            const roomId = await room();
            const { accessToken } = server.createUser("carol");
            const refusal = await send(roomId, "t1", "hi", { as: undefined, token: accessToken });
            expect(refused(refusal)).to.deep.equal([403, "M_FORBIDDEN"]);
        });

        it("answers a repeated transaction with the first event", async () => {
            const roomId = await room();
            const first = await send(roomId, "t1", "once");
            const again = await Promise.all([send(roomId, "t1", "twice"), send(roomId, "t1", "thrice")]);
            for (const { body } of again) expect(body).to.deep.equal(first.body);
            expect(texts(roomId)).to.deep.equal(["once"]);
        });

        it("runs concurrent requests with one transaction ID once", async () => {
            const roomId = await room();
            const answers = await Promise.all(Array.from({ length: 20 }, () => send(roomId, "t1", "hi")));
            expect(new Set(answers.map(({ body }) => body.event_id)).size).to.equal(1);
            expect(texts(roomId)).to.deep.equal(["hi"]);
        });

        it("loses the message of a second ghost with the same transaction ID: the key is path and appservice", async () => {
            const roomId = await room();
            const first = await send(roomId, "t1", "Alice's");
            const second = await send(roomId, "t1", "Bob's", { as: BOB });
            expect(second.body).to.deep.equal(first.body);
            expect(texts(roomId)).to.deep.equal(["Alice's"]);
        });

        it("takes another spelling of the path for another transaction", async () => {
            const roomId = await room();
            await send(roomId, "a~b", "one");
            await send(roomId, "a%7Eb", "two");
            expect(texts(roomId)).to.deep.equal(["one", "two"]);
        });

        it("does not remember failures", async () => {
            const roomId = await room();
            expect((await send(roomId, "t1", "", { json: { body: 1.5 } })).body.errcode).to.equal("M_BAD_JSON");
            expect((await send(roomId, "t1", "ok")).status).to.equal(200);
        });

        it("forgets transactions after a while and at a restart, but not whose event had which", async () => {
            await restart({ txnMemoryMs: 1 });
            const roomId = await room();
            const first = await send(roomId, "t1", "one");
            await sleep(2);
            await send(roomId, "t1", "two");
            await restart();
            await send(roomId, "t1", "three");
            expect(texts(roomId)).to.deep.equal(["one", "two", "three"]);

            const path = `${CLIENT}/rooms/${roomId}/event/${first.body.event_id}`;
            expect((await call("GET", path, { as: ALICE })).body.unsigned.transaction_id).to.equal("t1");
            expect((await call("GET", path, { as: BOB })).body.unsigned).to.not.have.property("transaction_id");
        });

        it("lets an appservice say when something happened, and nobody else", async () => {
            const roomId = await room();
            const { accessToken, userId } = server.createUser("carol");
            await call("POST", `${CLIENT}/join/${roomId}`, { token: accessToken });
            await send(roomId, "t1", "old", { query: { ts: 1234 } });
            await call("PUT", `${CLIENT}/rooms/${roomId}/send/m.room.message/t2`, {
                token: accessToken,
                query: { ts: 1234 },
                json: { body: "new" },
            });
            const [old, fresh] = server.events(roomId).slice(-2);
            expect(old).to.include({ sender: ALICE, origin_server_ts: 1234 });
            expect(fresh?.sender).to.equal(userId);
            expect(fresh?.origin_server_ts).to.equal(fresh?.received_ts);
        });

        it("refuses what is too large, not JSON, or no object", async () => {
            const roomId = await room();
            expect(refused(await send(roomId, "t1", "x".repeat(65_536)))).to.deep.equal([413, "M_TOO_LARGE"]);
            expect(refused(await send(roomId, "t2", "", { json: undefined, body: "{" }))).to.deep.equal([
                400,
                "M_NOT_JSON",
            ]);
            expect(refused(await send(roomId, "t3", "", { json: [] }))).to.deep.equal([400, "M_BAD_JSON"]);
            expect(texts(roomId)).to.deep.equal([]);
        });

        it("pages through a room in both directions", async () => {
            const roomId = await room();
            for (const text of ["1", "2", "3", "4", "5"]) await send(roomId, text, text);
            const all = server.events(roomId).map((event) => event.event_id);
            for (const [dir, expected] of [
                ["f", all],
                ["b", all.toReversed()],
            ] as const) {
                const seen: string[] = [];
                let query: Record<string, string | number> = { dir, limit: 4 };
                for (;;) {
                    const { body } = await call("GET", `${CLIENT}/rooms/${roomId}/messages`, { query });
                    seen.push(...body.chunk.map((event: { event_id: string }) => event.event_id));
                    if (body.end === undefined) break;
                    query = { ...query, from: body.end };
                }
                expect(seen).to.deep.equal(expected);
            }
        });

        it("finds edits of an event, and empties what is redacted", async () => {
            const roomId = await room();
            const { body: original } = await send(roomId, "t1", "teh");
            const edit = { "m.relates_to": { rel_type: "m.replace", event_id: original.event_id }, body: "* the" };
            const { body: replaced } = await send(roomId, "t2", "", { json: edit });
            const path = `/_matrix/client/v1/rooms/${roomId}/relations/${original.event_id}/m.replace/m.room.message`;
            const { body: relations } = await call("GET", path);
            expect(relations.chunk.map((event: { event_id: string }) => event.event_id)).to.deep.equal([
                replaced.event_id,
            ]);

            const redact = `${CLIENT}/rooms/${roomId}/redact/${replaced.event_id}`;
            expect(refused(await call("PUT", `${redact}/t3`, { as: BOB, json: {} }))).to.deep.equal([
                403,
                "M_FORBIDDEN",
            ]);
            expect((await call("PUT", `${redact}/t4`, { as: ALICE, json: { reason: "typo" } })).status).to.equal(200);
            expect((await call("GET", path)).body.chunk).to.deep.equal([]);
            await restart();
            expect(server.events(roomId).find((event) => event.event_id === replaced.event_id)?.content).to.deep.equal(
                {},
            );
        });
    });

    describe("sync", () => {
        it("shows a user the rooms, and waits for what comes next", async () => {
            const carol = server.createUser("carol");
            const roomId = await room();
            const sync = (query: Record<string, string | number>): Promise<Answer> =>
                call("GET", `${CLIENT}/sync`, { token: carol.accessToken, query });
            let { body } = await sync({});
            expect(body.rooms.join).to.deep.equal({});

            await call("POST", `${CLIENT}/rooms/${roomId}/invite`, { json: { user_id: carol.userId } });
            ({ body } = await sync({ since: body.next_batch, timeout: 20_000 }));
            expect(body.rooms.invite).to.have.property(roomId);

            await call("POST", `${CLIENT}/join/${roomId}`, { token: carol.accessToken });
            ({ body } = await sync({ since: body.next_batch }));
            expect(body.rooms.join[roomId].state.events.map((event: { type: string }) => event.type)).to.include(
                "m.room.create",
            );

            const waiting = sync({ since: body.next_batch, timeout: 20_000 });
            await send(roomId, "t1", "hello");
            ({ body } = await waiting);
            expect(body.rooms.join[roomId].timeline.events[0].content.body).to.equal("hello");
            expect((await sync({ since: body.next_batch, timeout: 1 })).body.rooms).to.deep.equal({});
        });
    });

    describe("reserved media", () => {
        it("may be five for a user, then says when the oldest expires, and counts again once filled", async () => {
            await restart({ unusedExpirationMs: 60_000 });
            const first = await reserve();
            for (let count = 2; count <= 5; count++) await reserve();
            const refusal = await call("POST", "/_matrix/media/v1/create");
            expect(refused(refusal)).to.deep.equal([429, "M_LIMIT_EXCEEDED"]);
            expect(refusal.body.retry_after_ms).to.be.within(30_000, 60_000);
            expect(Number(refusal.headers["retry-after"])).to.be.within(30, 60);
            await register("ghost_alice");
            await reserve({ as: ALICE });

            expect((await fill(first.id, "content")).status).to.equal(200);
            expect(server.pendingMedia("@bridgebot:localhost")).to.equal(4);
            await reserve();
            await restart({ unusedExpirationMs: 60_000 });
            expect(server.pendingMedia("@bridgebot:localhost")).to.equal(5);
        });

        it("are not limited for an appservice that is not rate limited", async () => {
            await restart({
                appservices: [{ ...BRIDGE, rateLimited: false }],
                maxPendingMedia: 1,
                createRateLimit: { perSecond: 0.1, burst: 1 },
            });
            for (let count = 0; count < 5; count++) await reserve();
        });

        it("are limited in their rate", async () => {
            await restart({ createRateLimit: { perSecond: 0.1, burst: 2 }, maxPendingMedia: 100 });
            await reserve();
            await reserve();
            const refusal = await call("POST", "/_matrix/media/v1/create");
            expect(refused(refusal)).to.deep.equal([429, "M_LIMIT_EXCEEDED"]);
            expect(refusal.body.retry_after_ms).to.be.within(5_000, 10_000);
        });

        it("expire: 404 for upload and download, and the slot is free", async () => {
            await restart({ unusedExpirationMs: 50, maxPendingMedia: 1 });
            const { id } = await reserve();
            // The download is held until the ID expires, far sooner than it asked for.
            expect(refused(await download(id, { query: { timeout_ms: 20_000 } }))).to.deep.equal([404, "M_NOT_FOUND"]);
            expect(refused(await fill(id, "late"))).to.deep.equal([404, "M_NOT_FOUND"]);
            await reserve();
        });

        it("have an unstable twin, and neither exists where the feature is off", async () => {
            const twin = "/_matrix/media/unstable/fi.mau.msc2246/create";
            expect((await call("POST", twin)).body.content_uri).to.match(/^mxc:\/\/localhost\/[\w-]+$/);
            await restart({ features: { create: false } });
            expect(refused(await call("POST", twin))).to.deep.equal([404, "M_UNRECOGNIZED"]);
            expect(refused(await call("POST", "/_matrix/media/v1/create"))).to.deep.equal([404, "M_UNRECOGNIZED"]);
        });
    });

    describe("uploads and downloads", () => {
        it("give back what was uploaded, with its type and name, also after a restart", async () => {
            const bytes = randomBytes(3_000_000);
            const { id, mxc } = await reserve();
            const query = { filename: "schöne Katze.jpg" };
            expect((await fill(id, bytes, { query, headers: { "content-type": "image/jpeg" } })).body).to.deep.equal(
                {},
            );
            await restart();
            expect(server.media(mxc)).to.include({
                size: bytes.length,
                contentType: "image/jpeg",
                filename: query.filename,
            });

            const { raw, headers } = await download(id);
            expect(raw.equals(bytes)).to.equal(true);
            expect(headers).to.include({ "content-type": "image/jpeg", "content-length": String(bytes.length) });
            expect(headers["content-disposition"]).to.equal("inline; filename*=utf-8''sch%C3%B6ne%20Katze.jpg");
            const legacy = await call("GET", `/_matrix/media/v3/download/localhost/${id}/other.jpg`, { token: null });
            expect(legacy.headers["content-disposition"]).to.equal("inline; filename=other.jpg");
            expect(refused(await download(id, { token: null }))).to.deep.equal([401, "M_MISSING_TOKEN"]);
        });

        it("go in one step too", async () => {
            const headers = { "content-type": "not a media type" };
            const { body } = await call("POST", "/_matrix/media/v3/upload", { body: "{}", headers });
            expect(server.media(body.content_uri)).to.deep.include({ size: 2, contentType: "not a media type" });
        });

        it("hold a download until the content is there, or answer 504", async () => {
            const { id } = await reserve();
            const early = await download(id, { query: { timeout_ms: 0 } });
            expect(refused(early)).to.deep.equal([504, "M_NOT_YET_UPLOADED"]);
            const waiting = [download(id), download(id, { query: { timeout_ms: 30_000 } })];
            await fill(id, "here");
            for (const { raw } of await Promise.all(waiting)) expect(raw.toString()).to.equal("here");
        });

        it("refuse another's ID, an unknown one, another server's, and a second content", async () => {
            await register("ghost_alice");
            const { id, mxc } = await reserve();
            expect(refused(await fill(id, "x", { as: ALICE }))).to.deep.equal([403, "M_FORBIDDEN"]);
            expect(refused(await fill("unknown", "x"))).to.deep.equal([404, "M_NOT_FOUND"]);
            const elsewhere = await call("PUT", `/_matrix/media/v3/upload/elsewhere.org/${id}`, { body: "x" });
            expect(refused(elsewhere)).to.deep.equal([404, "M_NOT_FOUND"]);
            await fill(id, "first");
            expect(refused(await fill(id, "second"))).to.deep.equal([409, "M_CANNOT_OVERWRITE_MEDIA"]);
            expect(server.media(mxc)?.size).to.equal(5);
        });

        it("demand a Content-Length", async () => {
            const { id } = await reserve();
            expect(refused(await fill(id, Readable.from(["chunked"])))).to.deep.equal([400, "M_UNKNOWN"]);
            expect((await fill(id, "")).status).to.equal(200);
        });

        it("refuse what is declared too large before it is sent", async () => {
            await restart({ maxUploadBytes: 1000 });
            expect((await call("GET", "/_matrix/client/v1/media/config")).body).to.deep.equal({
                "m.upload.size": 1000,
            });
            const { id } = await reserve();
            const put = slowPut(id, 5_000_000_000);
            put.write("the first of five billion bytes");
            const answer = await new Promise<IncomingMessage>((resolve) => put.once("response", resolve));
            put.destroy();
            expect(answer.statusCode).to.equal(413);
            expect((await fill(id, "small")).status).to.equal(200);
        });

        it("let one PUT in at a time, and the next as soon as its connection dies", async () => {
            const { id, mxc } = await reserve();
            const dying = slowPut(id, 1_000_000);
            dying.write(randomBytes(100_000));
            await until(async () => (await readdir(join(dataDir, "media"))).length === 1);
            expect(refused(await fill(id, "meanwhile"))).to.deep.equal([409, "M_CANNOT_OVERWRITE_MEDIA"]);
            dying.destroy();
            await until(async () => (await fill(id, "at last")).status === 200);
            expect(await readdir(join(dataDir, "media"))).to.deep.equal([id]);
            expect(server.media(mxc)?.size).to.equal(7);
        });

        it("can be slowed down", async () => {
            await restart({ bandwidthBytesPerSecond: 1_000_000 });
            const { id } = await reserve();
            const begun = Date.now();
            await fill(id, randomBytes(200_000));
            expect(Date.now() - begun).to.be.at.least(190);
        });

        it("carry a large file unchanged", async () => {
            await restart({ maxUploadBytes: 1e9 });
            const { id } = await reserve();
            const chunk = randomBytes(1 << 20);
            const body = Readable.from(Array.from({ length: 64 }, () => chunk));
            expect((await fill(id, body, { headers: { "content-length": String(64 << 20) } })).status).to.equal(200);
            const sent = createHash("sha256");
            for (let count = 0; count < 64; count++) sent.update(chunk);
            const { raw } = await download(id);
            expect(createHash("sha256").update(raw).digest("hex")).to.equal(sent.digest("hex"));
        });
    });

    describe("as a server", () => {
        it("tells an unknown endpoint from a wrong method", async () => {
            expect(refused(await call("GET", "/_matrix/client/v3/nonsense"))).to.deep.equal([404, "M_UNRECOGNIZED"]);
            expect(refused(await call("DELETE", `${CLIENT}/sync`))).to.deep.equal([405, "M_UNRECOGNIZED"]);
            expect((await call("GET", "/_matrix/client/versions", { token: null })).body.versions).to.include("v1.12");
        });

        it("answers, delays and cuts as it is told to, and logs it", async () => {
            const roomId = await room();
            const failing = server.intercept(({ path, user }) =>
                path.includes("/send/") && user === ALICE
                    ? { status: 502, body: { errcode: "M_UNKNOWN" }, headers: { "x-fault": "yes" }, delayMs: 1 }
                    : undefined,
            );
            const failed = await send(roomId, "t1", "never");
            expect([failed.status, failed.headers["x-fault"]]).to.deep.equal([502, "yes"]);
            expect((await send(roomId, "t2", "Bob's", { as: BOB })).status).to.equal(200);
            failing();

            for (const drop of ["before", "after"] as const) {
                const cutting = server.intercept(({ path }) => (path.endsWith(drop) ? { drop } : undefined));
                await send(roomId, drop, drop).then(
                    () => expect.fail("there was an answer"),
                    (error: { code?: string }) => expect(error.code).to.equal("ECONNRESET"),
                );
                cutting();
            }
            expect(texts(roomId)).to.deep.equal(["Bob's", "after"]);
            expect(server.requests.slice(-4).map(({ user, status }) => [user, status])).to.deep.equal([
                [ALICE, 502],
                [BOB, 200],
                [ALICE, 0],
                [ALICE, 200],
            ]);
        });

        it("closes at once, with requests held and an upload under way", async () => {
            const { id } = await reserve();
            const { id: other } = await reserve();
            const { next_batch: since } = (await call("GET", `${CLIENT}/sync`)).body;
            const held = [download(id), call("GET", `${CLIENT}/sync`, { query: { since, timeout: 60_000 } })];
            const settled = Promise.allSettled(held);
            slowPut(other, 1_000_000).write(randomBytes(1000));
            await until(async () => (await readdir(join(dataDir, "media"))).length === 1);
            const begun = Date.now();
            await server.close();
            await settled;
            expect(Date.now() - begun).to.be.below(2_000);
            expect(await readdir(join(dataDir, "media"))).to.deep.equal([]);
            server = await start();
        });

        it("has after a kill -9 what it had acknowledged, and none of the rest", async () => {
            await server.close();
            const module = new URL("../../src/dev/homeserver/index.ts", import.meta.url).href;
            const script = `
                import { startHomeserver } from ${JSON.stringify(module)};
                const { url } = await startHomeserver(${JSON.stringify({ dataDir, appservices: [BRIDGE] })});
                console.log(url);`;
            const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], {
                stdio: ["ignore", "pipe", "inherit"],
            });
            const url = await new Promise<string>((resolve) => createInterface(child.stdout).once("line", resolve));
            server = { ...server, url };

            const roomId = await room();
            const { id, mxc } = await reserve();
            const { id: cut } = await reserve();
            await fill(id, "whole");
            slowPut(cut, 1_000_000).write(randomBytes(1000));
            const acknowledged: string[] = [];
            const storm = Promise.allSettled(
                Array.from({ length: 200 }, async (_, index) => {
                    const { body } = await send(roomId, `t${index}`, `${index}`);
                    acknowledged.push(body.event_id);
                }),
            );
            await until(async () => acknowledged.length > 50);
            child.kill("SIGKILL");
            await Promise.all([once(child, "exit"), storm]);

            const journal = join(dataDir, "homeserver.jsonl");
            await appendFile(journal, '{"kind":"event","event":{"event_id":"$cut');
            await writeFile(join(dataDir, "media", "leftover.part"), "");
            server = await start();
            expect(server.events(roomId).map((event) => event.event_id)).to.include.members(acknowledged);
            expect(server.media(mxc)?.size).to.equal(5);
            expect(await readdir(join(dataDir, "media"))).to.deep.equal([id]);
            expect((await fill(cut, "again")).status).to.equal(200);
            for (const line of (await readFile(journal, "utf8")).trimEnd().split("\n")) JSON.parse(line);
        });

        it("removes a folder that it made itself", async () => {
            const own = await startHomeserver({ appservices: [BRIDGE] });
            expect(await readdir(own.dataDir)).to.include("homeserver.jsonl");
            await own.close();
            await readdir(own.dataDir).then(
                () => expect.fail("the folder is still there"),
                (error: { code?: string }) => expect(error.code).to.equal("ENOENT"),
            );
        });
    });
});

async function until(condition: () => Promise<boolean>): Promise<void> {
    while (!(await condition())) await sleep(5);
}
