/** Who may speak: ordinary users, appservices and their ghosts, and the access tokens they show. */
import type { Journal } from "./journal.ts";
import { forbidden, MatrixError, notFound } from "./matrix-error.ts";
import type { AppserviceRegistration } from "./options.ts";
import { randomId } from "./random-id.ts";

export interface Appservice {
    readonly id: string;
    readonly sender: string;
    readonly rateLimited: boolean;
    readonly owns: (userId: string) => boolean;
}

/** On whose behalf a request is made; `appservice` when it was made with that appservice's token. */
export interface Requester {
    readonly userId: string;
    readonly appservice?: Appservice;
}

export interface Profile {
    readonly displayname?: string;
    readonly avatar_url?: string;
}

export type AccountRecord =
    | { readonly kind: "user"; readonly userId: string; readonly profile: Profile }
    | { readonly kind: "token"; readonly userId: string; readonly token: string };

export class Accounts {
    readonly #serverName: string;
    readonly #appservices = new Map<string, Appservice>();
    readonly #profiles = new Map<string, Profile>();
    readonly #userByToken = new Map<string, string>();
    readonly #tokenOfUser = new Map<string, string>();
    #journal: Journal | undefined;

    constructor(serverName: string, registrations: readonly AppserviceRegistration[]) {
        this.#serverName = serverName;
        for (const registration of registrations) {
            const sender = this.userId(registration.senderLocalpart);
            // Synapse matches at the start of the user ID and leaves the end to the expression.
            const namespaces = registration.userNamespaces.map((source) => new RegExp(`^(?:${source})`, "u"));
            this.#appservices.set(registration.asToken, {
                id: registration.id,
                sender,
                rateLimited: registration.rateLimited ?? true,
                owns: (userId) => userId === sender || namespaces.some((namespace) => namespace.test(userId)),
            });
            this.#profiles.set(sender, { displayname: registration.senderLocalpart });
        }
    }

    /** From here on changes are written down; what is replayed before is not. */
    persistTo(journal: Journal): void {
        this.#journal = journal;
    }

    restore(record: AccountRecord): void {
        if (record.kind === "user") this.#profiles.set(record.userId, record.profile);
        else this.#remember(record.userId, record.token);
    }

    userId(localpart: string): string {
        return `@${localpart}:${this.#serverName}`;
    }

    /** Returns what is wrong rather than throwing it: endpoints without authentication do not want to know. */
    authenticate(token: string | undefined, actAs: string | undefined): Requester | MatrixError {
        if (token === undefined) return new MatrixError(401, "M_MISSING_TOKEN", "Missing access token");
        const appservice = this.#appservices.get(token);
        if (appservice === undefined) {
            const userId = this.#userByToken.get(token);
            return userId === undefined ? unknownToken() : { userId };
        }
        if (actAs === undefined || actAs === appservice.sender) return { userId: appservice.sender, appservice };
        // Identity assertion (spec, application services): only within the namespaces, only users that were registered.
        if (!appservice.owns(actAs)) {
            return forbidden(`Application service cannot masquerade as this user (${actAs}).`);
        }
        if (!this.#profiles.has(actAs)) {
            return forbidden(`Application service has not registered this user (${actAs})`);
        }
        return { userId: actAs, appservice };
    }

    /** Registers a ghost with the appservice's token. */
    async registerGhost(token: string | undefined, localpart: string): Promise<string> {
        if (token === undefined) throw new MatrixError(400, "M_UNKNOWN", "Appservice token must be provided");
        const appservice = this.#appservices.get(token);
        if (appservice === undefined) throw unknownToken();
        const userId = this.userId(localpart);
        if (!appservice.owns(userId)) {
            throw new MatrixError(400, "M_EXCLUSIVE", "Invalid user localpart for this application service.");
        }
        if (this.#profiles.has(userId)) throw new MatrixError(400, "M_USER_IN_USE", "User ID already taken.");
        await this.#setProfile(userId, { displayname: localpart });
        return userId;
    }

    /** The user's own access token, made when first asked for. */
    async accessToken(userId: string): Promise<string> {
        const known = this.#tokenOfUser.get(userId);
        if (known !== undefined) return known;
        const token = randomId(24);
        this.#remember(userId, token);
        await this.#write({ kind: "token", userId, token });
        return token;
    }

    /** In memory at once; on disk before anything that is written later. */
    createUser(localpart: string): { userId: string; accessToken: string } {
        const userId = this.userId(localpart);
        if (!this.#profiles.has(userId)) void this.#setProfile(userId, { displayname: localpart });
        void this.accessToken(userId);
        return { userId, accessToken: this.#tokenOfUser.get(userId) ?? "" };
    }

    profile(userId: string): Profile {
        const profile = this.#profiles.get(userId);
        if (profile === undefined) throw notFound("Profile was not found");
        return profile;
    }

    /** For a user that nobody registered here, nothing. */
    profileIfKnown(userId: string): Profile {
        return this.#profiles.get(userId) ?? {};
    }

    async changeProfile(userId: string, change: Profile): Promise<void> {
        await this.#setProfile(userId, { ...this.profile(userId), ...change });
    }

    #setProfile(userId: string, profile: Profile): Promise<void> {
        this.#profiles.set(userId, profile);
        return this.#write({ kind: "user", userId, profile });
    }

    #remember(userId: string, token: string): void {
        this.#userByToken.set(token, userId);
        this.#tokenOfUser.set(userId, token);
    }

    async #write(record: AccountRecord): Promise<void> {
        await this.#journal?.append(JSON.stringify(record));
    }
}

const unknownToken = (): MatrixError =>
    new MatrixError(401, "M_UNKNOWN_TOKEN", "Invalid access token passed.", { soft_logout: false });
