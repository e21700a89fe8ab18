import { inspect } from "node:util";
import { expect } from "chai";
import type { BridgeMediaOptions, Logger, MediaError } from "../../src/index.ts";
import { thrownAgain } from "../../src/uploads/job.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";

describe("why something failed", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    let warnings: [text: string, details: Record<string, unknown>][];
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
        warnings = [];
    });
    afterEach(() => closeScene({ world, remote }));

    const ignore = (): void => {};
    const logger: Logger = {
        debug: ignore,
        info: ignore,
        error: ignore,
        warn: (text, details) => void warnings.push([text, details as Record<string, unknown>]),
    };
    async function started(options: Partial<BridgeMediaOptions> = {}) {
        const media = world.component({ logger, ...options });
        await media.start();
        return media;
    }
    const said = (text: string): Record<string, unknown>[] =>
        warnings.filter(([warning]) => warning === text).map(([, details]) => details);
    const caught = (promise: Promise<unknown> | undefined): Promise<unknown> | undefined =>
        promise?.catch((error: unknown) => error);

    it("is told by send(), also after a restart, and by the log", async () => {
        const message = textMessage(roomId, alice, "half", { content: { msgtype: "m.text", body: "half", f: 0.5 } });
        const answer = { status: 400, body: { errcode: "M_BAD_JSON", error: "no" } };
        world.homeserver.intercept(({ path }) => (path.includes("/send/") ? answer : undefined));
        const expected = { code: "EVENT_REFUSED", status: 400, errcode: "M_BAD_JSON", detail: "HTTP 400 M_BAD_JSON" };
        for (let run = 0; run < 2; run++) {
            const media = await started();
            for (const error of [await caught(media.send(message)), await caught(media.send(message))]) {
                expect(error).to.include(expected);
                expect(inspect(error), "as a console shows it").to.contain("(HTTP 400 M_BAD_JSON)");
            }
            await media.close();
        }
        expect(said("A message was refused")).to.deep.equal([
            {
                id: message.id,
                roomId,
                sender: alice,
                code: "EVENT_REFUSED",
                status: 400,
                errcode: "M_BAD_JSON",
                error: "The homeserver refused the event (HTTP 400 M_BAD_JSON)",
            },
        ]);
    });

    it("is told by done, also after a restart, and by the log with where the file comes from", async () => {
        const url = remote.on("/gone", (_request, response) => response.writeHead(410).end());
        const message = photoMessage(roomId, alice, { kind: "http", url: `${url}?token=secret` });
        for (let run = 0; run < 2; run++) {
            const media = await started();
            const [upload] = (await media.send(message)).uploads;
            const error = await caught(upload?.done);
            expect(error).to.include({ code: "SOURCE_NOT_FOUND", status: 410, detail: "HTTP 410" });
            await media.close();
        }
        const [failure = {}] = said("An upload failed");
        expect(failure).to.deep.include({ messageId: message.id, roomId, source: remote.url, status: 410 });
        expect(failure["error"]).to.contain("HTTP 410");
        expect(failure["jobId"]).to.be.a("string");
        expect(inspect(failure)).not.to.contain("secret");
    });

    it("is told by what is still tried: for whom, where, what was answered", async () => {
        let failures = 0;
        world.homeserver.intercept(({ path }) =>
            path.includes("/send/") && failures++ === 0
                ? { status: 502, body: { errcode: "M_UNKNOWN", error: "no" } }
                : undefined,
        );
        const media = await started();
        const { id } = await media.send(textMessage(roomId, alice, "once"));
        const [failure = {}] = said("A request to the homeserver failed and will be repeated");
        const { delay, ...rest } = failure;
        expect(delay).to.be.a("number");
        expect(rest).to.deep.equal({
            id,
            roomId,
            sender: alice,
            attempt: 0,
            code: "HOMESERVER_FAILING",
            status: 502,
            errcode: "M_UNKNOWN",
            error: "The homeserver answered with an error of its own (HTTP 502 M_UNKNOWN)",
        });
    });

    it("goes along where a file is taken back, and to all that share it", async () => {
        const url = remote.on("/forbidden", (_request, response) => response.writeHead(403).end());
        const shared = { dedupeKey: "sticker" };
        const media = await started({ concurrency: 1 });
        const sent = await Promise.all(
            [0, 1].map(() => media.send(photoMessage(roomId, alice, { kind: "http", url }, {}, shared))),
        );
        for (const { uploads } of sent)
            expect(await caught(uploads[0]?.done)).to.include({ code: "SOURCE_FORBIDDEN", status: 403 });

        const failing = remote.on("/failing", (_request, response) => response.writeHead(503).end());
        const { uploads } = await media.send(photoMessage(roomId, alice, { kind: "http", url: failing }));
        const [upload] = uploads;
        const ended = caught(upload?.done);
        await new Promise<void>((resolve) => media.on("job", ({ error }) => error && resolve()));
        await media.cancel(upload?.jobId ?? "");
        const error = await ended;
        expect(error).to.include({ code: "CANCELLED", status: undefined });
        expect((error as MediaError).cause).to.include({ code: "SOURCE_UNAVAILABLE", status: 503 });
    });

    it("is read from a journal that has no more than a code and words", () => {
        const error = thrownAgain({ code: "FILE_TOO_LARGE", message: "The file is larger than the limit", limit: 5 });
        expect(error).to.include({ code: "FILE_TOO_LARGE", limit: 5, status: undefined, detail: undefined });
        const refused = thrownAgain({ code: "EVENT_REFUSED", message: "The homeserver refused the event (HTTP 400)" });
        expect(refused).to.include({ code: "EVENT_REFUSED", errcode: undefined, detail: "HTTP 400" });
        expect(refused.message).to.match(/ \(HTTP 400\)$/);
    });

    it("is told with the limit that was exceeded", async () => {
        const bytes = someBytes(10_000);
        const media = await started({ maxFileBytes: 5000 });
        const source = { kind: "http", url: remote.file(bytes) } as const;
        const [upload] = (await media.send(photoMessage(roomId, alice, source))).uploads;
        expect(await caught(upload?.done)).to.include({ code: "FILE_TOO_LARGE", limit: 5000 });
    });
});
