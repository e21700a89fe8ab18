import type { Flood, FloodKind } from "../processes/component.ts";
import { type Context, startComponent } from "../support/context.ts";
import type { Row } from "../support/result.ts";
import { anyRooms, type HomeserverAccess, roomWithGhost } from "../support/rooms.ts";
import { openSynapse } from "../support/synapse.ts";
import type { Measurement } from "./measurement.ts";

const ROOMS = 50;
/** Short ones, so that a minute in which the machine is slower is one for all kinds. */
const PARTS = 20;
/** Stickers that were sent before. */
const OTHERS = 16;
const KINDS: readonly FloodKind[] = ["text", "bareSticker", "sticker"];
/** Each send takes a Synapse tens of milliseconds. */
const SENDS = { bare: 10_000, synapse: 1000 };
const QUICK = { bare: 4000, synapse: 200 };

type Place = Pick<HomeserverAccess, "homeserverUrl"> & Partial<HomeserverAccess> & Pick<Flood, "roomIds" | "url">;

/**
 * One sticker sent again and again, over many rooms, against as many texts, and as many events that say the same as a
 * sticker's and have no file: by turns, on the bare homeserver, where only the component takes time, and on a Synapse. The
 * first stickers find no file yet and wait for the transfer of one of them; all of them count.
 */
export const stickers: Measurement = {
    name: "stickers",
    about: "One sticker sent 10,000 times, against texts",
    async measure(context) {
        const url = `${await context.start("remote").call("url")}/file?size=48000&etag=1`;
        const counts = context.quick ? QUICK : SENDS;
        const bare = new Rates();
        const uploads: number[] = [];
        for (let run = 0; run < context.runs; run++) {
            const homeserver = context.start("homeserver");
            const place = { homeserverUrl: await homeserver.call("url"), roomIds: anyRooms(ROOMS), url };
            const uploaded = async () => (await homeserver.call("counts")).uploads;
            uploads.push(await floods(context, place, counts.bare, bare, uploaded));
            context.log(`${bare.last}, ${uploads.at(-1)} transfers`);
            await homeserver.kill();
        }
        return [
            { ...bare.ratio("text"), atLeast: 0.9 },
            bare.ratio("bareSticker"),
            { what: "transfers of the sticker", unit: "transfers", values: uploads, atMost: 1 },
            ...bare.rows(),
            ...(await atSynapse(context, url, counts.synapse)),
        ];
    },
};

async function atSynapse(context: Context, url: string, count: number): Promise<Row[]> {
    const synapse = await openSynapse(context);
    if (synapse === undefined) return [];
    const roomIds: string[] = [];
    for (let i = 0; i < ROOMS; i++) roomIds.push((await roomWithGhost(synapse)).roomId);
    const rates = new Rates(", Synapse");
    for (let run = 0; run < context.runs; run++) {
        await floods(context, { ...synapse, roomIds, url }, count, rates);
        context.log(`Synapse: ${rates.last}`);
    }
    return [{ ...rates.ratio("text"), atLeast: 0.9 }, rates.ratio("bareSticker"), ...rates.rows()];
}

/** Resolves with how many uploads came with what counts. */
async function floods(
    context: Context,
    { homeserverUrl, accessToken, ghost, roomIds, url }: Place,
    count: number,
    rates: Rates,
    uploads = async () => 0,
): Promise<number> {
    const component = await startComponent(context, {
        homeserverUrl,
        ...(accessToken !== undefined && { accessToken }),
    });
    const flood = { count: count / PARTS, roomIds, ...(ghost !== undefined && { sender: ghost }), url };
    // Code that runs for the first times is slow, whatever it sends: also what runs only until a sticker is there.
    const others = { ...flood, key: "sticker/dog", stickers: OTHERS };
    for (const kind of KINDS) await component.call("flood", { ...others, kind, count: count / 4 });
    const before = await uploads();
    const seconds: Record<FloodKind, number> = { text: 0, bareSticker: 0, sticker: 0 };
    for (let part = 0; part < PARTS; part++) {
        for (const kind of turned(KINDS, part)) {
            seconds[kind] += flood.count / (await component.call("flood", { ...flood, key: "sticker/cat", kind }));
        }
    }
    rates.add(count, seconds);
    const after = await uploads();
    await component.kill();
    return after - before;
}

/** Sends a second, of each kind in each run. */
class Rates {
    readonly #of: Record<FloodKind, number[]> = { text: [], bareSticker: [], sticker: [] };
    readonly #where: string;

    constructor(where = "") {
        this.#where = where;
    }

    add(count: number, seconds: Readonly<Record<FloodKind, number>>): void {
        for (const kind of KINDS) this.#of[kind].push(count / seconds[kind]);
    }

    get last(): string {
        return KINDS.map((kind) => `${kind} ${this.#of[kind].at(-1)?.toFixed(0)}/s`).join(", ");
    }

    ratio(to: "text" | "bareSticker"): Row {
        const values = this.#of.sticker.map((rate, run) => rate / (this.#of[to][run] ?? 0));
        const other = to === "text" ? "texts, sends a second" : "the same events without a file";
        return { what: `stickers / ${other}${this.#where}`, unit: "×", values };
    }

    rows(): Row[] {
        const of = { sticker: "stickers", bareSticker: "the same events without a file", text: "texts" };
        return (["sticker", "bareSticker", "text"] as const).map((kind) => ({
            what: `${of[kind]}${this.#where}`,
            unit: "/s",
            values: this.#of[kind],
        }));
    }
}

/** Each comes first, second and last about as often: who is between two others is a tenth slower. */
function turned(kinds: readonly FloodKind[], part: number): FloodKind[] {
    const first = part % kinds.length;
    return [...kinds.slice(first), ...kinds.slice(0, first)];
}
