import type { ServerResponse } from "node:http";
import { expect } from "chai";
import type { BridgeMedia, BridgeMediaOptions, MediaError, SentMessage } from "../../src/index.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

describe("a source that is opened while its event is on its way", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    let media: BridgeMedia;
    let letEventsPass: () => void;
    // More than sockets hold for a reader who does not read.
    const bytes = someBytes(20_000_000);
    const answers: ServerResponse[] = [];

    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
        answers.length = 0;
        letEventsPass = world.homeserver.intercept(({ path }) =>
            path.includes("/send/") ? { status: 503, body: {} } : undefined,
        );
    });
    afterEach(() => closeScene({ world, remote }));

    async function sending(options: Partial<BridgeMediaOptions> = {}, status = 200) {
        media = world.component(options);
        await media.start();
        const url = remote.on("/photo", (_request, response) => {
            answers.push(response);
            response.writeHead(status, { "content-length": bytes.length }).end(bytes);
        });
        const message = photoMessage(roomId, alice, { kind: "http", url });
        return { message, sent: media.send(message) };
    }

    const wasTried = (): Promise<unknown> =>
        until(() => world.homeserver.requests.some(({ path, status }) => path.includes("/send/") && status === 503));

    const done = async (sent: Promise<SentMessage>) => (await sent).uploads[0]?.done;

    it("is asked once, before the event is in the room, and what it gave is transferred", async () => {
        const { sent } = await sending();
        await until(() => answers.length === 1);
        await wasTried();
        letEventsPass();
        expect((await done(sent))?.state).to.equal("done");
        expect(answers).to.have.lengthOf(1);
    });

    it("is asked once also where it refuses", async () => {
        const { sent } = await sending({}, 404);
        await until(() => answers.length === 1);
        letEventsPass();
        const error = await done(sent).catch((reason: MediaError) => reason);
        expect(error).to.include({ code: "SOURCE_NOT_FOUND" });
        expect(answers).to.have.lengthOf(1);
    });

    it("is left alone where it has limits", async () => {
        const { sent } = await sending({ sourceLimits: { default: { concurrency: 3 } } });
        await wasTried();
        expect(answers).to.deep.equal([]);
        letEventsPass();
        expect((await done(sent))?.state).to.equal("done");
    });

    it("is let go of when its message is taken back", async () => {
        const { message, sent } = await sending();
        const refused = sent.catch((error: { code: string }) => error.code);
        const [answer] = await until(() => (answers.length === 1 ? answers : undefined));
        const closed = new Promise((resolve) => answer?.socket?.once("close", resolve));
        await media.cancelMessage(message.id);
        expect(await refused).to.equal("CANCELLED");
        await closed;
    });
});
