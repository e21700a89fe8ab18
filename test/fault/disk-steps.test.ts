import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import PQueue from "p-queue";
import type { BridgeMediaOptions } from "../../src/index.ts";
import { bodies, download, edits, messages } from "../support/download.ts";
import { ComponentProcess } from "../support/faults/component-process.ts";
import { type Breakage, breakDisk, journalFiles } from "../support/faults/disk.ts";
import { messageOf, type Spoken } from "../support/faults/spoken.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { startS3rver } from "../support/s3rver.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { type S3, Storage } from "../support/storage.ts";
import { until } from "../support/until.ts";

/**
 * One failing write or sync of the journal at each step of a room's life: for every n that a life has, its n-th fails. The
 * bridge goes on, or is killed when it has met the failure; whoever calls it says again what was refused.
 */
interface Life extends Pick<Breakage, "calls" | "error"> {
    /** The homeserver names presigned addresses. */
    readonly presigned: boolean;
    readonly nth: number;
    readonly isKilled: boolean;
}

const KINDS = [
    { calls: "fdatasync", error: "EIO", presigned: false },
    { calls: "write", error: "ENOSPC", presigned: true },
] as const;
/** What a life has at least; two commits that meet are one. */
const STEPS = 20;
const SIDE_BY_SIDE = 3;
const LONG = { limitMs: 60_000 };

const FILES = { cat: someBytes(30_000), sticker: someBytes(20_000), bytes: someBytes(10_000) };
const SHOWN = ["first", "cat", "sticker", "sticker again", "bytes", "gone", "last"];
const EDIT = { id: "edit", content: { msgtype: "m.text", body: "first, mended" } };

interface LifeScene extends Scene {
    readonly said: readonly Spoken[];
}

function messagesIn({ remote, roomId, alice }: Scene): Spoken[] {
    const text = (body: string): Spoken => ({ id: body, roomId, sender: alice, content: { msgtype: "m.text", body } });
    const photo = (body: string, file: NonNullable<Spoken["media"]>[number]): Spoken => ({
        ...text(body),
        content: { msgtype: "m.image", body, info: { mimetype: "image/jpeg" } },
        media: [file],
    });
    const sticker = { url: remote.file(FILES.sticker), dedupeKey: "sticker" };
    return [
        text("first"),
        photo("cat", { url: remote.file(FILES.cat) }),
        photo("sticker", sticker),
        photo("sticker again", sticker),
        photo("bytes", { base64: FILES.bytes.toString("base64") }),
        photo("gone", { url: remote.on("/gone", (_request, response) => void response.writeHead(404).end()) }),
        text("last"),
    ];
}

/** Whether the failure was met. */
async function lived(life: Life, s3: S3): Promise<boolean> {
    const storage = life.presigned ? await Storage.open({ ...s3, close: async () => {} }) : undefined;
    // What the journal forgot would be said twice: the homeserver remembers no transactions.
    const world = await openScene({ txnMemoryMs: 0, ...(storage !== undefined && { presigned: storage.media() }) });
    const scene = { ...world, said: messagesIn(world) };
    const { homeserver, bot, dataDir } = scene.world;
    const options = { dataDir, allowPrivateAddresses: true, reserveAhead: 0 };
    const first = await ComponentProcess.start(
        { homeserverUrl: homeserver.url, bot, options },
        // strace counts the calls of each thread: with one, they are all of one.
        { UV_THREADPOOL_SIZE: "1" },
    );
    try {
        const isMet = await firstLife(first, life, scene);
        await first.kill();
        await restarted(scene, options, () => expectEverything(scene));
        const events = homeserver.events(scene.roomId).length;
        await restarted(scene, options);
        expect(homeserver.events(scene.roomId), "events after a restart").to.have.length(events);
        expect(await readdir(join(dataDir, "spool")), "spool").to.deep.equal([]);
        return isMet;
    } catch (thrown) {
        if (thrown instanceof Error) thrown.message += `\n${first.log.join("").slice(-4000)}`;
        throw thrown;
    } finally {
        await first.kill();
        await closeScene(scene);
        await storage?.close();
    }
}

async function firstLife(process: ComponentProcess, life: Life, scene: LifeScene): Promise<boolean> {
    const disk = await breakDisk(process.pid, { ...life, paths: journalFiles(scene.world.dataDir) });
    try {
        const whole = sayAll(process, scene.said);
        const met = until(() => disk.hits > 0, LONG);
        met.catch(() => {});
        await (life.isKilled ? Promise.race([whole, met]) : whole);
        if (!life.isKilled || disk.hits === 0) await expectEverything(scene);
        return disk.hits > 0;
    } finally {
        await disk.mend();
    }
}

/** Everything once more, to a bridge that was started again and lives until `isOver`: what is in line then is not sent. */
async function restarted(
    scene: LifeScene,
    options: Partial<BridgeMediaOptions>,
    isOver: () => Promise<void> = async () => {},
): Promise<void> {
    const media = scene.world.component(options);
    await media.start();
    await sayAll(
        {
            send: async (message) => (await media.send(messageOf(message))).eventId,
            edit: async (messageId, edit) => (await media.edit(messageId, edit)).eventId,
            async jobs() {
                const states: string[] = [];
                for await (const { state } of media.jobs()) states.push(state);
                return states;
            },
        },
        scene.said,
    );
    await isOver();
    await media.close();
}

/** One after the other, and again what was refused; resolves when every file has come to its end. */
async function sayAll(
    bridge: Pick<ComponentProcess, "send" | "edit" | "jobs">,
    said: readonly Spoken[],
): Promise<void> {
    for (const message of said) await accepted(() => bridge.send(message));
    await accepted(() => bridge.edit("first", EDIT));
    const ended = async (): Promise<boolean> =>
        (await bridge.jobs()).every((state) => state === "done" || state.startsWith("failed"));
    await until(ended, LONG);
}

async function accepted(say: () => Promise<string>): Promise<void> {
    for (let answer = await say(); !answer.startsWith("$"); answer = await say())
        expect(answer).to.equal("STORE_WRITE_FAILED");
}

async function expectEverything({ world: { homeserver }, roomId }: Scene): Promise<void> {
    await until(() => edits(homeserver, roomId).size === 2, LONG);
    expect(bodies(homeserver, roomId)).to.deep.equal(SHOWN);
    expect(messages(homeserver, roomId), "with the edits").to.have.length(SHOWN.length + 2);
    const shown = messages(homeserver, roomId).filter(({ content }) => !("m.new_content" in content));
    const [first, cat, sticker, again, bytes, gone] = shown;
    expect(edits(homeserver, roomId).get(first?.event_id ?? "")).to.include({ body: EDIT.content.body });
    expect(edits(homeserver, roomId).get(gone?.event_id ?? "")).to.include({ msgtype: "m.notice" });
    const files = [
        [cat, FILES.cat],
        [sticker, FILES.sticker],
        [again, FILES.sticker],
        [bytes, FILES.bytes],
    ] as const;
    for (const [event, content] of files) {
        const { status, body } = await download(homeserver, String(event?.content["url"]), 0);
        expect(status, String(event?.content["body"])).to.equal(200);
        expect(sha256(body)).to.equal(sha256(content));
    }
}

describe("a journal that fails once", function () {
    this.timeout(600_000);
    let s3: S3;
    before(async () => {
        s3 = await startS3rver();
    });
    after(() => s3.close());

    for (const kind of KINDS) {
        it(`${kind.error} of ${kind.calls}, at each step of a life${kind.presigned ? ", presigned" : ""}`, async () => {
            const queue = new PQueue({ concurrency: SIDE_BY_SIDE });
            let steps = Number.POSITIVE_INFINITY;
            const live = async (nth: number): Promise<void> => {
                // What is killed at a step of the one kind goes on in the other.
                const isKilled = (nth % 2 === 0) === kind.presigned;
                const isMet = await lived({ ...kind, nth, isKilled }, s3).catch((thrown: unknown) => {
                    if (thrown instanceof Error)
                        thrown.message = `step ${nth}${isKilled ? ", killed" : ""}: ${thrown.message}`;
                    throw thrown;
                });
                if (!isMet) steps = Math.min(steps, nth - 1);
            };
            const lives: Promise<void>[] = [];
            for (let nth = 1; nth <= steps; nth++) {
                await queue.onSizeLessThan(1);
                const one = queue.add(() => live(nth));
                one.catch(() => {});
                lives.push(one);
            }
            await Promise.all(lives);
            expect(steps, "steps that failed").to.be.at.least(STEPS);
        });
    }
});
