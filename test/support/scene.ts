import { type Remote, startRemote } from "./remote.ts";
import { openWorld, type World } from "./world.ts";

/** A world with a remote network beside it, a ghost, and a room that it is in. */
export interface Scene {
    readonly world: World;
    readonly remote: Remote;
    readonly alice: string;
    readonly roomId: string;
}

export async function openScene(options: Parameters<typeof openWorld>[0] = {}): Promise<Scene> {
    const world = await openWorld(options);
    const alice = world.ghost("alice");
    return { world, remote: await startRemote(), alice, roomId: await world.room(alice) };
}

export async function closeScene({ world, remote }: Pick<Scene, "world" | "remote">): Promise<void> {
    await world.close();
    await remote.close();
}
