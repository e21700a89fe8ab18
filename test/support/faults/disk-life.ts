import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { BridgeMedia, type BridgeMediaOptions, MediaError } from "../../../src/index.ts";
import { standInCrypto, withCrypto } from "../crypto.ts";
import { messages } from "../download.ts";
import { closeScene, openScene, type Scene } from "../scene.ts";
import { type S3, Storage } from "../storage.ts";
import { until } from "../until.ts";
import { ComponentProcess } from "./component-process.ts";
import { type Breakage, breakDisk, journalFiles } from "./disk.ts";
import { messageOf, type Spoken } from "./spoken.ts";

/**
 * One failing write or sync of the journal at one step of a room's life: the n-th fails. The bridge goes on, or is killed
 * when it has met the failure; whoever calls it says again what was refused. Then it is started again twice.
 */
export interface Life extends Pick<Breakage, "calls" | "error"> {
    readonly script: Script;
    /** The homeserver names presigned addresses. */
    readonly presigned: boolean;
    readonly nth: number;
    readonly isKilled: boolean;
}

/** What is asked of a bridge, and what has to come of it. */
export interface Script {
    /** Once for each life's scene. */
    readonly prepare: (scene: Scene) => Promise<LifeScene>;
    /** What can be said again and again. */
    readonly calls: (bridge: Bridge, scene: LifeScene) => readonly (() => Promise<string>)[];
    /** What is said until it is done, and not after a restart that follows. */
    readonly last?: (bridge: Bridge, scene: LifeScene) => readonly (() => Promise<string>)[];
    readonly expectEverything: (scene: LifeScene) => Promise<void>;
}

export interface LifeScene extends Scene {
    readonly said: readonly Spoken[];
    readonly encryptedRooms: readonly string[];
}

export type Bridge = Pick<ComponentProcess, "send" | "edit" | "redact" | "setPicture" | "jobs">;

export const LONG = { limitMs: 60_000 };

/** Whether the failure was met. */
export async function lived(life: Life, s3: S3): Promise<boolean> {
    const storage = life.presigned ? await Storage.open({ ...s3, close: async () => {} }) : undefined;
    // What the journal forgot would be said twice: the homeserver remembers no transactions.
    const world = await openScene({ txnMemoryMs: 0, ...(storage !== undefined && { presigned: storage.media() }) });
    const scene = await life.script.prepare(world);
    const { homeserver, bot, dataDir } = scene.world;
    const { encryptedRooms } = scene;
    const options = { dataDir, allowPrivateAddresses: true, reserveAhead: 0, encryption: "spool" } as const;
    const first = await ComponentProcess.start(
        { homeserverUrl: homeserver.url, bot, options, ...(encryptedRooms.length > 0 && { encryptedRooms }) },
        // strace counts the calls of each thread: with one, they are all of one.
        { UV_THREADPOOL_SIZE: "1" },
    );
    const rooms = [scene.roomId, ...encryptedRooms];
    const events = (): number => rooms.reduce((sum, room) => sum + homeserver.events(room).length, 0);
    try {
        const isMet = await firstLife(first, life, scene);
        await first.kill();
        await restarted(scene, options, async (bridge) => {
            await sayAll(bridge, life.script.calls(bridge, scene));
            await sayAll(bridge, life.script.last?.(bridge, scene) ?? []);
            await life.script.expectEverything(scene);
        });
        const before = events();
        await restarted(scene, options, (bridge) => sayAll(bridge, life.script.calls(bridge, scene)));
        expect(events(), "events after a restart").to.equal(before);
        expect(await readdir(join(dataDir, "spool")), "spool").to.deep.equal([]);
        for (const room of encryptedRooms) expect(messages(homeserver, room), "in the clear").to.deep.equal([]);
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
    const { calls, error, nth, script } = life;
    const disk = await breakDisk(process.pid, { calls, error, nth, paths: journalFiles(scene.world.dataDir) });
    try {
        const whole = sayAll(process, [...script.calls(process, scene), ...(script.last?.(process, scene) ?? [])]);
        const met = until(() => disk.hits > 0, LONG);
        met.catch(() => {});
        // What is cut off by the kill is heard by nobody.
        whole.catch(() => {});
        await (life.isKilled ? Promise.race([whole, met]) : whole);
        if (!life.isKilled || disk.hits === 0) await script.expectEverything(scene);
        return disk.hits > 0;
    } finally {
        await disk.mend();
    }
}

/** A bridge that was started again, in this process, and lives until `live` is over: what is in line then is not sent. */
async function restarted(
    scene: LifeScene,
    options: BridgeMediaOptions,
    live: (bridge: Bridge) => Promise<void>,
): Promise<void> {
    const { encryptedRooms, world } = scene;
    const crypto = encryptedRooms.length > 0 ? standInCrypto(...encryptedRooms) : undefined;
    const media = new BridgeMedia(
        crypto === undefined ? world.bridge : withCrypto(world.bridge, () => crypto),
        options,
    );
    await media.start();
    try {
        await live(bridgeOf(media));
    } finally {
        await media.close();
    }
}

function bridgeOf(media: BridgeMedia): Bridge {
    return {
        send: async (message) => (await media.send(messageOf(message))).eventId,
        edit: async (messageId, edit) => (await media.edit(messageId, edit)).eventId,
        redact: async (messageId) => {
            await media.cancelMessage(messageId, { redact: true });
            return "$";
        },
        setPicture: (of, url) => {
            const source = { kind: "http", url } as const;
            return "userId" in of ? media.avatar(of.userId, source) : media.roomAvatar(of.roomId, source);
        },
        async jobs() {
            const states: string[] = [];
            for await (const { state } of media.jobs()) states.push(state);
            return states;
        },
    };
}

/** One after the other, and again what was refused; resolves when every file has come to its end. */
async function sayAll(bridge: Bridge, calls: readonly (() => Promise<string>)[]): Promise<void> {
    for (const call of calls) await accepted(call);
    const ended = async (): Promise<boolean> =>
        (await bridge.jobs()).every((state) => /^(?:done|failed|cancelled|replaced)/.test(state));
    await until(ended, LONG);
}

/** Events' ids and addresses are what calls resolve with. */
async function accepted(say: () => Promise<string>): Promise<void> {
    const saying = (): Promise<string> =>
        say().catch((error: unknown) => (error instanceof MediaError ? error.code : ""));
    for (let answer = await saying(); !/^(?:\$|mxc:)/.test(answer); answer = await saying())
        expect(answer).to.equal("STORE_WRITE_FAILED");
}
