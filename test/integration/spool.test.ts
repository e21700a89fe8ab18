import { mkdtemp, readdir, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mock } from "node:test";
import { expect } from "chai";
import { MediaError } from "../../src/errors.ts";
import { LevelStore } from "../../src/store/level.ts";
import type { StoredRecord, Write } from "../../src/store/store.ts";
import { Spool } from "../../src/uploads/sources/spool.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene } from "../support/scene.ts";
import { until } from "../support/until.ts";

describe("the spool", () => {
    let directory: string;
    beforeEach(async () => {
        directory = await mkdtemp(join(tmpdir(), "spool-"));
    });
    afterEach(async () => {
        await rm(directory, { recursive: true, force: true });
    });

    async function errorOf(name: string): Promise<MediaError> {
        const spool = new Spool(directory, 1000);
        try {
            await spool.open({ kind: "spool", name }, new AbortController().signal);
        } catch (error) {
            if (error instanceof MediaError) return error;
        }
        throw new Error("it was opened");
    }

    it("says that a file is gone only where there is none: what cannot be looked at now is tried again", async () => {
        expect(await errorOf("none")).to.include({ code: "SPOOL_MISSING", retryable: false });
        // The one trouble of a disk that root meets, too.
        await symlink("loop", join(directory, "loop"));
        expect(await errorOf("loop")).to.include({ code: "SPOOL_FAILED", retryable: true });
    });
});

describe("what was handed over with a message that the journal refused", () => {
    afterEach(() => mock.restoreAll());

    it("stays until the journal says that it is not there: a kill before may bring the message back", async () => {
        const { world, remote, alice, roomId } = await openScene();
        let [isDown, refuses] = [false, false];
        const down = new MediaError("STORE_WRITE_FAILED");
        class Failing extends LevelStore {
            override async commit(writes: readonly Write[]): Promise<void> {
                if (!refuses) return super.commit(writes);
                isDown = true;
                throw down;
            }
            override async get(collection: string, key: string): Promise<StoredRecord | undefined> {
                if (isDown) throw down;
                return super.get(collection, key);
            }
        }
        const media = world.component({ store: (directory) => new Failing(directory) });
        await media.start();
        const photo = photoMessage(roomId, alice, { kind: "buffer", data: someBytes(1000) });
        const spooled = (): Promise<string[]> => readdir(join(world.dataDir, "spool"));
        refuses = true;
        const code = await media.send(photo).catch((error: MediaError) => error.code);
        expect(code).to.equal("STORE_WRITE_FAILED");
        expect(await spooled()).to.have.length(1);
        [isDown, refuses] = [false, false];
        await until(async () => (await spooled()).length === 0);
        expect((await (await media.send(photo)).uploads[0]?.done)?.state).to.equal("done");
        await closeScene({ world, remote });
    });

    it("goes also where another one cannot be removed", async () => {
        const { world, remote, alice, roomId } = await openScene();
        let refuses = true;
        class Refusing extends LevelStore {
            override async commit(writes: readonly Write[]): Promise<void> {
                if (refuses && writes.some(({ collection }) => collection === "message"))
                    throw new MediaError("STORE_WRITE_FAILED");
                return super.commit(writes);
            }
        }
        const media = world.component({ store: (directory) => new Refusing(directory) });
        await media.start();
        const photo = photoMessage(roomId, alice, { kind: "buffer", data: someBytes(1000) });
        let stuck: string | undefined;
        mock.method(Spool.prototype, "remove", async (name: string) => {
            stuck ??= name;
            if (name === stuck) throw new MediaError("SPOOL_FAILED");
            await rm(join(world.dataDir, "spool", name), { force: true });
        });
        for (let times = 0; times < 3; times++) await media.send(photo).catch(() => {});
        expect(await readdir(join(world.dataDir, "spool"))).to.deep.equal([stuck]);
        refuses = false;
        expect((await (await media.send(photo)).uploads[0]?.done)?.state).to.equal("done");
        await closeScene({ world, remote });
    });
});
