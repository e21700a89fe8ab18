import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { BridgeMedia } from "../../index.ts";
import { folderConversation } from "../network/folder.ts";
import type { Conversation } from "../network/remote-message.ts";
import { type SampleNetwork, startSampleNetwork } from "../network/sample-network.ts";
import { DemoBridge } from "./bridge.ts";
import type { Closers } from "./closers.ts";
import { DemoFailure, reasonOf } from "./failure.ts";
import { embeddedHome, type Home, realHome, type RealServer } from "./home.ts";
import { type DemoOptions, EXIT } from "./options.ts";
import { readRegistration } from "./registration.ts";
import { StateFile } from "./state.ts";

/** At this rate the large video of the default size takes eight seconds. */
const VIDEO_BYTES_PER_SECOND = 8 * 2 ** 20;
/** The demo sends the same messages at every start; their results must outlast any pause between two. */
const KEEP_RESULTS_MS = 10 * 365 * 24 * 3600 * 1000;

/** The chat network, the homeserver, and between them the bridge with the component; all of it running. */
export interface Setup {
    readonly conversations: readonly Conversation[];
    readonly home: Home;
    readonly bridge: DemoBridge;
    /** Not started yet, so that its first events are heard too. */
    readonly media: BridgeMedia;
    readonly state: StateFile;
}

export async function setUp(options: DemoOptions, closers: Closers): Promise<Setup> {
    // What the command line names is read before anything is written.
    const ownFiles = options.media === undefined ? undefined : await ownFilesOf(options.media);
    const server = await serverOf(options);
    const folder = stateFolder(options);
    const { networkPort } = (await StateFile.open(folder)).state;
    // The network's port is also what keeps a second demo away from this folder.
    const network = await openNetwork(options, networkPort);
    closers.add(() => network.close());
    // Read again: a demo that has just ended may have written it meanwhile.
    const state = await StateFile.open(folder);
    const home = server === undefined ? await embeddedHome(folder, state.state.asToken) : await realHome(server);
    closers.add(() => home.close());
    const bridge = new DemoBridge(home);
    const media = new BridgeMedia(bridge, {
        dataDir: join(folder, "media"),
        allowPrivateAddresses: ["127.0.0.0/8"],
        keepResultsMs: KEEP_RESULTS_MS,
    });
    closers.add(() => media.close());
    const conversations = ownFiles === undefined ? network.conversations : [ownFiles];
    return { conversations, home, bridge, media, state };
}

/** A homeserver of its own has state of its own: another server does not know the rooms. */
function stateFolder({ data, homeserver }: DemoOptions): string {
    return homeserver === undefined ? data : join(data, new URL(homeserver).host.replaceAll(":", "_"));
}

/** A demo that was told to end just now may still hold the port. */
const PORT_TRIES = 12;
const PORT_RETRY_MS = 250;

async function openNetwork({ videoSize, pause, data }: DemoOptions, port: number): Promise<SampleNetwork> {
    const network = { port, videoBytes: videoSize, videoBytesPerSecond: VIDEO_BYTES_PER_SECOND, pauseMs: pause };
    for (let tries = 1; ; tries++) {
        try {
            return await startSampleNetwork(network);
        } catch (cause) {
            if (!(cause instanceof Error && "code" in cause && cause.code === "EADDRINUSE")) throw cause;
            if (tries === PORT_TRIES) {
                const sentence = `Port ${port} on loopback is in use, probably by a demo that runs with the folder ${data}`;
                throw new DemoFailure(`${sentence}: end that one, or choose another folder with --data`, { cause });
            }
            await sleep(PORT_RETRY_MS);
        }
    }
}

async function ownFilesOf(folder: string): Promise<Conversation> {
    try {
        return await folderConversation(folder);
    } catch (cause) {
        const sentence = `error: option '--media': the folder cannot be read: ${reasonOf(cause)}`;
        throw new DemoFailure(sentence, { exitCode: EXIT.usage, cause });
    }
}

/** Undefined for the embedded one. */
async function serverOf({ homeserver, registration }: DemoOptions): Promise<RealServer | undefined> {
    if (homeserver === undefined || registration === undefined) return undefined;
    return { url: homeserver, registration: await readRegistration(registration) };
}
