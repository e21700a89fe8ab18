import type { Home } from "./home.ts";
import { MatrixApi, MatrixRefusal } from "./matrix-api.ts";

/**
 * The bridge that embeds the component, reduced to what the component asks of one: intents. A real bridge hands over
 * its SDK's bridge object instead.
 */
export class DemoBridge {
    readonly #home: Home;
    readonly #api: MatrixApi;
    readonly #intents = new Map<string, Intent>();

    constructor(home: Home) {
        this.#home = home;
        this.#api = new MatrixApi(home.url, home.asToken);
    }

    getIntent(userId: string = this.#home.bot): Intent {
        let intent = this.#intents.get(userId);
        if (intent === undefined) this.#intents.set(userId, (intent = new Intent(this.#home, this.#api, userId)));
        return intent;
    }
}

class Intent {
    readonly userId: string;
    readonly matrixClient: { readonly homeserverUrl: string; readonly accessToken: string };
    readonly #home: Home;
    readonly #api: MatrixApi;
    #registered: Promise<void> | undefined;

    constructor(home: Home, api: MatrixApi, userId: string) {
        this.#home = home;
        this.#api = api;
        this.userId = userId;
        this.matrixClient = { homeserverUrl: home.url, accessToken: home.asToken };
    }

    ensureRegistered(): Promise<void> {
        this.#registered ??= this.#register().catch((error: unknown) => {
            this.#registered = undefined;
            throw error;
        });
        return this.#registered;
    }

    /** The bot opens the door where the ghost does not get in by itself. */
    async join(roomId: string): Promise<void> {
        await this.ensureRegistered();
        const join = `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/join`;
        try {
            await this.#api.request("POST", join, { body: {}, userId: this.userId });
        } catch (error) {
            if (!(error instanceof MatrixRefusal) || error.errcode !== "M_FORBIDDEN") throw error;
            const invite = `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/invite`;
            await this.#api.request("POST", invite, { body: { user_id: this.userId }, userId: this.#home.bot });
            await this.#api.request("POST", join, { body: {}, userId: this.userId });
        }
    }

    async #register(): Promise<void> {
        const username = this.userId.slice(1, this.userId.indexOf(":"));
        const body = { type: "m.login.application_service", username, inhibit_login: true };
        try {
            await this.#api.request("POST", "/_matrix/client/v3/register", { body });
        } catch (error) {
            if (error instanceof MatrixRefusal && error.errcode === "M_USER_IN_USE") return;
            throw error;
        }
        const path = `/_matrix/client/v3/profile/${encodeURIComponent(this.userId)}/displayname`;
        await this.#api.request("PUT", path, {
            body: { displayname: this.#home.nameOf(this.userId) },
            userId: this.userId,
        });
    }
}
