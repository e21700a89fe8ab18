import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { BridgeMedia, MediaError } from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import type { Write } from "../../src/store/store.ts";
import { download, edits, messages } from "../support/download.ts";
import { copyImage } from "../support/image.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const SENDS = 6;
const BYTES = someBytes(20_000);

/**
 * The end of a process at one of its steps: from the commit with this number on nothing reaches the disk any more, and
 * nobody hears of it. What had been written is copied for the next process.
 */
function endAtCommit(number: number) {
    const commit: (this: LevelStore, writes: readonly Write[]) => Promise<void> = Reflect.get(
        LevelStore.prototype,
        "commit",
    );
    let count = 0;
    const dead = new Set<LevelStore>();
    let isBuried = false;
    let ended: () => void = () => {};
    const hasEnded = new Promise<void>((resolve) => (ended = resolve));
    const letGo = new Set<() => void>();
    const writing = new Set<Promise<void>>();
    LevelStore.prototype.commit = function (this: LevelStore, writes) {
        if (dead.size === 0 && count++ >= number) {
            dead.add(this);
            // What it was still writing is on the disk before the next process looks.
            void Promise.allSettled(writing).then(ended);
        }
        if (!dead.has(this)) {
            const written = commit.call(this, writes);
            writing.add(written);
            return written.finally(() => writing.delete(written));
        }
        if (isBuried) return Promise.reject(new MediaError("CLOSED"));
        return new Promise((_, reject) => letGo.add(() => reject(new MediaError("CLOSED"))));
    };
    return {
        hasEnded,
        /** Lets what is left of the process come to its end. */
        bury(): void {
            isBuried = true;
            for (const reject of letGo) reject();
        },
        restore(): void {
            LevelStore.prototype.commit = commit;
        },
    };
}

describe("a file in common, when the process ends at any of its steps", function () {
    this.timeout(120_000);

    /** Whether the process came to this step at all. */
    async function endsWell(step: number, firstFails: boolean): Promise<boolean> {
        const { world, remote, alice, roomId } = await openScene();
        const nextDir = await mkdtemp(join(tmpdir(), "bridge-media-"));
        const rooms = [roomId, await world.room(alice)];
        const url = remote.file(BYTES);
        const said = Array.from({ length: SENDS }, (_, index) => {
            const source = { kind: "http", url: firstFails && index === 0 ? `${remote.url}/gone` : url } as const;
            const id = { id: `sticker ${index}` };
            return photoMessage(rooms[index % 2] ?? "", alice, source, id, { dedupeKey: "sticker" });
        });
        const end = endAtCommit(step);
        const first = world.component();
        await first.start();
        const sending = said.map((message) => first.send(message));
        const through = Promise.all(sending).then(async (all) => {
            for (const {
                uploads: [upload],
            } of all)
                await upload?.done.catch(() => {});
            return "through" as const;
        });
        through.catch(() => {});
        const came = await Promise.race([end.hasEnded, through]);
        if (came !== "through") {
            await copyImage(world.dataDir, nextDir);
            const second = new BridgeMedia(world.bridge, { dataDir: nextDir, allowPrivateAddresses: true });
            await second.start();
            const all = await Promise.all(said.map((message) => second.send(message)));
            for (const { uploads } of all) {
                expect(uploads).to.have.length(1);
                if (!firstFails) expect((await uploads[0]?.done)?.state).to.equal("done");
                else await uploads[0]?.done.catch(() => {});
            }
            await until(async () => {
                for await (const { state } of second.jobs()) if (state !== "done" && state !== "failed") return false;
                return true;
            });
            for (const room of rooms) {
                const own = messages(world.homeserver, room).filter(({ content }) => !("m.new_content" in content));
                expect(own).to.have.length(SENDS / rooms.length);
                for (const { event_id, content } of own) {
                    // That one has failed is said behind its end.
                    await until(
                        async () => {
                            const shown = edits(world.homeserver, room).get(event_id) ?? content;
                            if (firstFails && shown["msgtype"] === "m.notice") return true;
                            const { status, body } = await download(world.homeserver, String(shown["url"]), 0);
                            return status === 200 && body.equals(BYTES);
                        },
                        { what: `step ${step}: the file of ${event_id}` },
                    );
                }
            }
            await second.close();
        }
        end.bury();
        await closeScene({ world, remote });
        end.restore();
        await rm(nextDir, { recursive: true, force: true });
        return came !== "through";
    }

    for (const firstFails of [false, true]) {
        it(firstFails ? "and the first source gives nothing" : "all show it, and nobody waits for ever", async () => {
            let step = 2;
            while (await endsWell(step, firstFails)) step++;
            expect(step).to.be.greaterThan(12);
        });
    }
});
