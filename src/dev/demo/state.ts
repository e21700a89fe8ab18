import { randomBytes, randomInt } from "node:crypto";
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { DemoFailure, reasonOf } from "./failure.ts";

/**
 * What the demo itself has to know again at the next start, in `demo.json`: tokens, so readable by its owner only.
 * What happens to messages and files is not here, that is the component's own journal.
 */
const STATE = z.strictObject({
    version: z.literal(1),
    /** Links to remote files are journaled, so they have to lead to the same port after a restart. */
    networkPort: z.int().min(1).max(65_535),
    /** Of the appservice, on the embedded homeserver. */
    asToken: z.string(),
    /** By conversation. */
    rooms: z.record(
        z.string(),
        z.strictObject({
            roomId: z.string(),
            /** Ids of the remote messages in the order in which they were first given to `send()`. */
            order: z.array(z.string()),
        }),
    ),
});

export type DemoState = Readonly<z.infer<typeof STATE>>;
export type RoomState = DemoState["rooms"][string];

export class StateFile {
    readonly #path: string;
    #state: DemoState;

    private constructor(path: string, state: DemoState) {
        this.#path = path;
        this.#state = state;
    }

    static async open(folder: string): Promise<StateFile> {
        const path = join(folder, "demo.json");
        await mkdir(folder, { recursive: true, mode: 0o700 });
        const existing = await readState(path);
        const file = new StateFile(path, existing ?? newState());
        if (existing === undefined) await file.#write();
        return file;
    }

    get state(): DemoState {
        return this.#state;
    }

    /** One call at a time. */
    async setRoom(conversation: string, room: RoomState): Promise<void> {
        this.#state = { ...this.#state, rooms: { ...this.#state.rooms, [conversation]: room } };
        await this.#write();
    }

    /** Either the old state or the new one is on disk, at any instant. */
    async #write(): Promise<void> {
        const temporary = `${this.#path}.new`;
        const handle = await open(temporary, "w", 0o600);
        try {
            await handle.writeFile(`${JSON.stringify(this.#state, undefined, 4)}\n`);
            await handle.sync();
        } finally {
            await handle.close();
        }
        await rename(temporary, this.#path);
    }
}

async function readState(path: string): Promise<DemoState | undefined> {
    let text: string;
    try {
        text = await readFile(path, "utf8");
    } catch (error) {
        if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
        throw new DemoFailure(`${path} cannot be read: ${reasonOf(error)}`, { cause: error });
    }
    try {
        return STATE.parse(JSON.parse(text));
    } catch (cause) {
        throw new DemoFailure(
            `${path} is not a state file of this demo: remove its folder, or choose another with --data`,
            { cause },
        );
    }
}

function newState(): DemoState {
    return {
        version: 1,
        // Below the ports that systems give to outgoing connections: between two starts nobody takes it by chance.
        networkPort: randomInt(20_000, 32_000),
        asToken: randomBytes(32).toString("base64url"),
        rooms: {},
    };
}
