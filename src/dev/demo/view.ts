import { setTimeout as sleep } from "node:timers/promises";
import { reasonOf } from "./failure.ts";
import type { Home } from "./home.ts";
import type { BridgedRoom } from "./rooms.ts";
import type { Screen } from "./screen.ts";
import type { Entry } from "./timeline.ts";
import { objectOf, textOf } from "./json.ts";
import { formatBytes } from "./units.ts";

const LOOK_MS = 100;
const MAX_LOOKS = 50;

/** Shows a room's timeline as it grows, read from the homeserver: what is printed does stand in the room. */
export class RoomView {
    readonly #room: BridgedRoom;
    readonly #home: Home;
    readonly #screen: Screen;
    readonly #signal: AbortSignal;
    readonly #heading: string;
    #looking: Promise<void> | undefined;
    #again = false;

    constructor(
        room: BridgedRoom,
        { home, screen, width, signal }: { home: Home; screen: Screen; width: number; signal: AbortSignal },
    ) {
        this.#room = room;
        this.#home = home;
        this.#screen = screen;
        this.#signal = signal;
        this.#heading = room.title.padEnd(width);
        if (room.before.size > 0) screen.line(`      ${room.before.size} messages are here already`, this.#heading);
    }

    /** Has a look soon. Calls while a look is under way lead to one more look. */
    refresh(): void {
        this.#again = true;
        this.#looking ??= this.#look().finally(() => {
            this.#looking = undefined;
        });
    }

    /** Resolves when everything is shown. */
    async settled(): Promise<void> {
        await this.#looking;
    }

    /** Resolves when these messages show an edit, or after a while without one. */
    async untilEdited(remoteIds: readonly string[]): Promise<void> {
        const entries = (): Entry[] =>
            this.#room.timeline.entries.filter(({ remoteId }) => remoteIds.includes(remoteId));
        for (let looks = 0; looks < MAX_LOOKS && !this.#signal.aborted; looks++) {
            this.refresh();
            await this.settled();
            if (entries().every(({ edited }) => edited)) return;
            await sleep(LOOK_MS);
        }
    }

    async #look(): Promise<void> {
        while (this.#again) {
            this.#again = false;
            try {
                const { added, edited } = await this.#room.timeline.catchUp();
                for (const entry of added) this.#show(entry, "");
                for (const entry of edited) this.#show(entry, "(edited) ");
            } catch (error) {
                // The next look reads on from here; whether everything arrived is decided at the end.
                if (!this.#signal.aborted) this.#screen.line(`      ${reasonOf(error)}`, this.#heading);
            }
        }
    }

    #show(entry: Entry, note: string): void {
        const number = String(this.#room.timeline.entries.indexOf(entry) + 1).padStart(4);
        const name = this.#home.nameOf(entry.sender).padEnd(7);
        this.#screen.line(`${number}  ${name}  ${note}${describe(entry)}`, this.#heading);
    }
}

const KINDS: Readonly<Record<string, string>> = {
    "m.image": "image",
    "m.video": "video",
    "m.audio": "audio",
    "m.file": "file",
};

function describe({ type, content }: Entry): string {
    const body = textOf(content["body"]).replaceAll(/\s+/g, " ");
    const filename = textOf(content["filename"], body);
    const kind = type === "m.sticker" ? "sticker" : KINDS[textOf(content["msgtype"])];
    if (kind === undefined) return body;
    const { size } = objectOf(content["info"]);
    return `[${kind} ${filename}${typeof size === "number" ? `, ${formatBytes(size)}` : ""}] ${filename === body ? "" : body}`.trimEnd();
}
