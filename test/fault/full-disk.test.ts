import { execFileSync } from "node:child_process";
import { mkdtemp, rm, statfs, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import type { MediaError } from "../../src/index.ts";
import { bodies } from "../support/download.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { until } from "../support/until.ts";
import { openWorld, type World } from "../support/world.ts";

describe("a full disk", () => {
    let world: World;
    let disk: string;
    beforeEach(async () => {
        // What the journal forgot would be said twice: the homeserver remembers no transactions.
        world = await openWorld({ txnMemoryMs: 0 });
        disk = await mkdtemp(join(tmpdir(), "small-disk-"));
        // Eight MiB; needs root, which the error says.
        execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m", "tmpfs", disk]);
    });
    afterEach(async () => {
        await world.close();
        execFileSync("umount", [disk]);
        await rm(disk, { recursive: true });
    });

    it("fails messages with a code, keeps what was journaled, and goes on when there is room", async () => {
        const alice = world.ghost("alice");
        const roomId = await world.room(alice);
        const media = world.component({ dataDir: join(disk, "media") });
        await media.start();
        await media.send(textMessage(roomId, alice, "before"));
        const ballast = join(disk, "ballast");
        await writeFile(ballast, Buffer.alloc(16 * 2 ** 20)).catch((error: { code?: string }) => {
            expect(error.code).to.equal("ENOSPC");
        });
        const outcomes: string[] = [];
        const messageOf = (index: number) =>
            textMessage(roomId, alice, `${index}`, {
                id: `full/${index}`,
                content: { msgtype: "m.text", body: `${index}`, filler: "x".repeat(20_000) },
            });
        for (let index = 0; index < 60; index++) {
            const sending = media.send(messageOf(index)).then(
                () => "sent",
                (error: MediaError) => error.code,
            );
            outcomes.push(await Promise.race([sending, outcomeLater(500)]));
        }
        expect(outcomes).to.include("STORE_WRITE_FAILED");
        await rm(ballast);
        await media.send(textMessage(roomId, alice, "after"));
        await media.close();

        const again = world.component({ dataDir: join(disk, "media") });
        await again.start();
        await again.send(textMessage(roomId, alice, "last"));
        for (const [index, outcome] of outcomes.entries()) if (outcome === "sent") await again.send(messageOf(index));
        const shown = bodies(world.homeserver, roomId);
        expect(new Set(shown).size, "no message twice").to.equal(shown.length);
        for (const [index, outcome] of outcomes.entries()) {
            if (outcome === "sent") expect(shown).to.include(`${index}`);
            if (outcome === "STORE_WRITE_FAILED") expect(shown).not.to.include(`${index}`);
        }
        expect(shown.slice(-2)).to.deep.equal(["after", "last"]);
    });

    it("does not keep the bytes of a message that it refused: the journal needs their room", async () => {
        const alice = world.ghost("alice");
        const roomId = await world.room(alice);
        const media = world.component({ dataDir: join(disk, "media") });
        await media.start();
        await media.send(textMessage(roomId, alice, "before"));
        const { bavail, bsize } = await statfs(disk);
        // All but a page: the message does not fit behind it.
        const source = { kind: "buffer", data: Buffer.alloc((bavail - 1) * bsize, "x") } as const;
        const content = { msgtype: "m.file", body: "large", filler: "x".repeat(20_000) };
        const code = await media
            .send(photoMessage(roomId, alice, source, { content }))
            .catch((error: MediaError) => error.code);
        expect(code).to.equal("STORE_WRITE_FAILED");
        await until(() => media.send(textMessage(roomId, alice, "after")).catch(() => undefined));
        await media.close();
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["before", "after"]);
    });
});

/** A message whose outcome cannot be journaled waits for room on the disk. */
function outcomeLater(milliseconds: number): Promise<string> {
    return new Promise((resolve) => setTimeout(resolve, milliseconds, "waiting"));
}
