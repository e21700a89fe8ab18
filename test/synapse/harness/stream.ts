import { expect } from "chai";
import type { RemoteMessage } from "../../../src/index.ts";
import { sha256, someBytes } from "../../support/remote.ts";
import { until } from "../../support/until.ts";
import { bodies, download, mxcs, originals } from "./room-view.ts";
import type { SynapseWorld } from "./world.ts";

/** A stream of remote messages, text and photos mixed, and the proof that all of it arrived. */
export class MessageStream {
    readonly messages: RemoteMessage[] = [];
    /** SHA-256 of the photo by the message's body. */
    readonly #photos = new Map<string, string>();
    readonly #world: SynapseWorld;
    readonly #roomId: string;

    constructor(world: SynapseWorld, roomId: string) {
        this.#world = world;
        this.#roomId = roomId;
    }

    text(sender: string): this {
        const body = this.#nextBody();
        this.messages.push(this.#message(sender, { msgtype: "m.text", body }));
        return this;
    }

    photo(sender: string, bytes = someBytes(50_000), url = this.#world.remote.file(bytes)): this {
        const body = this.#nextBody();
        this.#photos.set(body, sha256(bytes));
        const content = { msgtype: "m.image", body, info: { mimetype: "image/jpeg" } };
        this.messages.push({
            ...this.#message(sender, content),
            media: [{ at: ["url"], source: { kind: "http", url } }],
        });
        return this;
    }

    /** Waits until the last message is in the room. */
    async allSent(limitMs = 60_000): Promise<void> {
        const last = this.messages.at(-1)?.content["body"];
        await until(async () => (await bodies(this.#world, this.#roomId)).at(-1) === last, {
            what: `${String(last)} as the room's last message`,
            limitMs,
        });
    }

    /** Every message exactly once, in order, and every photo with the bytes of its source. */
    async assertArrived({ downloadMs = 60_000 } = {}): Promise<void> {
        await this.allSent();
        const events = await originals(this.#world, this.#roomId);
        const expected = this.messages.map(({ content }) => content["body"]);
        expect(events.map(({ content }) => content["body"])).to.deep.equal(expected);
        for (const { content } of events) {
            const wanted = this.#photos.get(String(content["body"]));
            const found = mxcs(content);
            expect(found).to.have.length(wanted === undefined ? 0 : 1);
            if (wanted === undefined) continue;
            const { status, body } = await download(this.#world, found[0] ?? "", downloadMs);
            expect(status, `download of ${String(content["body"])}`).to.equal(200);
            expect(sha256(body), `bytes of ${String(content["body"])}`).to.equal(wanted);
        }
    }

    #nextBody(): string {
        return `message ${this.messages.length}`;
    }

    #message(sender: string, content: RemoteMessage["content"]): RemoteMessage {
        const roomId = this.#roomId;
        return { id: `${roomId}/${this.messages.length}`, roomId, sender, content };
    }
}
