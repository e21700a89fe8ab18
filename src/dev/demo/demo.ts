import type { Closers } from "./closers.ts";
import { type Delivery, deliverRoom } from "./deliver.ts";
import type { DemoOptions } from "./options.ts";
import { makeReport, type Report } from "./report.ts";
import { type BridgedRoom, openRoom } from "./rooms.ts";
import type { Screen } from "./screen.ts";
import { setUp } from "./setup.ts";
import { showTransfers } from "./transfers.ts";
import { sum, verifyRoom } from "./verify.ts";
import { RoomView } from "./view.ts";

export interface DemoContext {
    readonly screen: Screen;
    /** Fires when the demo is to end before it is through. */
    readonly signal: AbortSignal;
    /** Everything that is started is put in here; the caller closes it. */
    readonly closers: Closers;
}

/** Bridges everything once and compares what arrived. Answers undefined when it was told to end before. */
export async function runDemo(options: DemoOptions, context: DemoContext): Promise<Report | undefined> {
    const { screen, signal, closers } = context;
    const { conversations, home, bridge, media, state } = await setUp(options, closers);
    const width = Math.max(...conversations.map(({ title }) => title.length));
    for (const line of introduction(options, home.url, conversations.length)) screen.line(line);
    showTransfers(media, screen, width);
    await media.start();
    const rooms: BridgedRoom[] = [];
    for (const conversation of conversations) {
        rooms.push(await openRoom(conversation, { home, bridge, state, invite: options.invite }));
    }
    const views = new Map(rooms.map((room) => [room, new RoomView(room, { home, screen, width, signal })]));

    const startedAt = performance.now();
    const onDelivery = ({ message, error }: Delivery, room: BridgedRoom): void => {
        const told = error === undefined || signal.aborted;
        if (!told) screen.line(`      ${message.id} was not sent: ${error}`, room.title.padEnd(width));
        views.get(room)?.refresh();
    };
    const bridging = async (room: BridgedRoom): Promise<Delivery[]> => {
        const deliveries = await deliverRoom(room, { media, home, signal, onDelivery });
        const failed = await Promise.all(deliveries.map(hasFailedFile));
        // What the component has to say of a file that cannot come is part of the room.
        await views
            .get(room)
            ?.untilEdited(deliveries.filter((_, index) => failed[index]).map(({ message }) => message.id));
        return deliveries;
    };
    const deliveries = await unlessAborted(Promise.all(rooms.map(bridging)), signal);
    if (deliveries === undefined) return undefined;

    const seconds = (performance.now() - startedAt) / 1000;
    const comparing = rooms.map((room, index) => verifyRoom(room, deliveries[index] ?? [], home));
    const findings = await unlessAborted(Promise.all(comparing), signal);
    if (findings === undefined) return undefined;
    for (const view of views.values()) await view.settled();
    return makeReport(deliveries.flat(), sum(findings), seconds);
}

/** Waits until all its files have come or failed. Stickers cannot be edited, so nothing is waited for there. */
async function hasFailedFile({ message, uploads }: Delivery): Promise<boolean> {
    const outcomes = await Promise.all(uploads);
    return message.file?.kind !== "sticker" && outcomes.some((reason) => reason !== undefined);
}

function introduction({ media, homeserver, data }: DemoOptions, url: string, rooms: number): string[] {
    const what = media === undefined ? `${rooms} rooms of the sample network` : `The files in ${media}`;
    const where = homeserver === undefined ? `a homeserver of the demo's own at ${url}` : url;
    return [
        `${what}, bridged into ${where}; state in ${data}.`,
        "A line is a message as its room has it; ✓ tells that a file has followed its message.",
        "",
    ];
}

async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
    const aborted = new Promise<undefined>((resolve) => {
        if (signal.aborted) resolve(undefined);
        signal.addEventListener("abort", () => resolve(undefined), { once: true });
    });
    // In the race's order an abort that has already happened goes first.
    return Promise.race([aborted, work]);
}
