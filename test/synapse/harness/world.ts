import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
    type BridgeLike,
    BridgeMedia,
    type BridgeMediaOptions,
    type CryptoLike,
    type RemoteMessage,
} from "../../../src/index.ts";
import { matrixRequest } from "../../../src/matrix/request.ts";
import { withCrypto } from "../../support/crypto.ts";
import { type Remote, startRemote } from "../../support/remote.ts";
import { plainBridge } from "../../support/world.ts";
import { ComponentProcess } from "./component-process.ts";
import { AS_TOKEN, SERVER_NAME, type SynapseOptions } from "./config.ts";
import { Proxy } from "./proxy.ts";
import { Synapse } from "./synapse.ts";

/** The first suite to run installs Synapse; on a slow line that takes a while. */
const INSTALLED_WITHIN_MS = 20 * 60_000;

/** What a component's bridge is like. */
interface BridgeSetting {
    /** @default the proxy's */
    readonly homeserverUrl?: string;
    /** What its clients encrypt with. @default nothing */
    readonly crypto?: CryptoLike;
}

/** A Synapse with a proxy before it, a remote network, and components between the two. */
export class SynapseWorld {
    readonly synapse: Synapse;
    readonly proxy: Proxy;
    readonly remote: Remote;
    readonly bot: string;
    /** Who is asked about the rooms: straight at Synapse, past the proxy. */
    readonly bridge: BridgeLike;
    readonly #components: (BridgeMedia | ComponentProcess)[] = [];
    readonly #dirs: string[] = [];

    constructor(synapse: Synapse, proxy: Proxy, remote: Remote) {
        this.synapse = synapse;
        this.proxy = proxy;
        this.remote = remote;
        this.bot = `@${synapse.registration.senderLocalpart}:${SERVER_NAME}`;
        this.bridge = plainBridge(synapse.url, this.bot, AS_TOKEN);
    }

    ghost(name: string): string {
        return this.synapse.registration.ghost(name);
    }

    /** A JSON request as a user of the appservice, straight to Synapse. */
    async request(userId: string, method: "GET" | "POST" | "PUT", path: string, body?: Record<string, unknown>) {
        return matrixRequest(
            { homeserverUrl: this.synapse.url, accessToken: AS_TOKEN, userId },
            {
                method,
                path: `/_matrix/client${path}`,
                refusals: { tooLarge: "EVENT_TOO_LARGE", refused: "EVENT_REFUSED" },
                ...(body !== undefined && { body }),
            },
            (answered) => answered,
        );
    }

    /** A room of the bot's that these ghosts are in. */
    async room(...members: string[]): Promise<string> {
        return this.#room("public_chat", members);
    }

    /** One that nobody enters without an invitation. */
    async privateRoom(...members: string[]): Promise<string> {
        return this.#room("private_chat", members);
    }

    /** One whose state says that it is encrypted. */
    async encryptedRoom(...members: string[]): Promise<string> {
        const roomId = await this.room(...members);
        const path = `/v3/rooms/${encodeURIComponent(roomId)}/state/m.room.encryption/`;
        await this.request(this.bot, "PUT", path, { algorithm: "m.megolm.v1.aes-sha2" });
        return roomId;
    }

    async dataDir(): Promise<string> {
        const dir = await mkdtemp(join(tmpdir(), "bridge-media-"));
        this.#dirs.push(dir);
        return dir;
    }

    /** A started component; it reaches Synapse through the proxy unless another address is given. */
    async component(
        options: Partial<BridgeMediaOptions> = {},
        { homeserverUrl = this.proxy.url, crypto }: BridgeSetting = {},
    ): Promise<BridgeMedia> {
        const { dataDir = await this.dataDir(), ...others } = options;
        const plain = plainBridge(homeserverUrl, this.bot, AS_TOKEN);
        const bridge = crypto === undefined ? plain : withCrypto(plain, () => crypto);
        const media = new BridgeMedia(bridge, { dataDir, allowPrivateAddresses: true, ...others });
        this.#components.push(media);
        await media.start();
        return media;
    }

    /** The same in a process of its own, which can be killed; it sends `messages` as soon as it has started. */
    async componentProcess(
        dataDir: string,
        messages: readonly RemoteMessage[],
        options: Partial<BridgeMediaOptions> = {},
    ): Promise<ComponentProcess> {
        const { bot } = this;
        const plan = { homeserverUrl: this.proxy.url, accessToken: AS_TOKEN, bot, dataDir, messages, options };
        const child = await ComponentProcess.start(plan);
        this.#components.push(child);
        return child;
    }

    /** Ends what a test has begun. */
    async reset(): Promise<void> {
        this.proxy.reset();
        for (const component of this.#components.splice(0)) await component.close();
        this.proxy.reset();
        for (const dir of this.#dirs.splice(0)) await rm(dir, { recursive: true, force: true });
    }

    async close(): Promise<void> {
        await this.remote.close();
        await this.proxy.close();
        await this.synapse.close();
    }

    async #room(preset: string, members: readonly string[]): Promise<string> {
        const created = await this.request(this.bot, "POST", "/v3/createRoom", { preset });
        const roomId = String(created["room_id"]);
        for (const member of members) {
            await this.register(member);
            if (preset === "private_chat")
                await this.request(this.bot, "POST", `/v3/rooms/${encodeURIComponent(roomId)}/invite`, {
                    user_id: member,
                });
            await this.request(member, "POST", `/v3/rooms/${encodeURIComponent(roomId)}/join`, {});
        }
        return roomId;
    }

    async register(userId: string): Promise<void> {
        if ("getIntent" in this.bridge) await this.bridge.getIntent(userId).ensureRegistered();
    }
}

/** Hooks that give the enclosing suite a world; the function returned hands it to a running test. */
export function useSynapse(options: Partial<SynapseOptions> = {}): () => SynapseWorld {
    let world: SynapseWorld | undefined;
    before(async function () {
        this.timeout(INSTALLED_WITHIN_MS);
        const synapse = await Synapse.open(options);
        world = new SynapseWorld(synapse, await Proxy.open(synapse.url), await startRemote());
    });
    afterEach(() => world?.reset());
    after(() => world?.close());
    return () => {
        if (world === undefined) throw new Error("Only while a test runs");
        return world;
    };
}
