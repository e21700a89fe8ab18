import { MediaError } from "../errors.ts";
import { type JsonObject, UPLOAD_REFUSALS } from "./answer.ts";
import type { Access } from "./client.ts";
import type { MxcUri } from "./mxc.ts";
import { matrixRequest } from "./request.ts";

/**
 * Uploads past the homeserver (MSC3870): `/create` may name an address in a storage for the file, and the homeserver is
 * told by `/complete` when it is there. Both are in use under their unstable names only; the stable ones are read
 * as well. The draft's feature flag is not looked at: its name is misspelt, and an answer's keys say it all.
 */

/** Where the file of a reserved address may be put; the URL lets anybody do so, so it is a secret. */
export interface PresignedAddress {
    readonly url: string;
    readonly method: "PUT" | "POST";
}

const PREFIXES = ["", "com.beeper.msc3870."] as const;
/** S3's are up to about 2 KiB with a session token. It is journaled with each job, so it has a bound. */
const MAX_URL_LENGTH = 16 * 1024;

/**
 * What `/create` says about a presigned upload. Anything that could not be used as it stands counts as not said: the
 * homeserver takes the file itself in any case.
 */
export function presignedAddress(created: JsonObject): PresignedAddress | undefined {
    for (const prefix of PREFIXES) {
        const url = created[`${prefix}upload_url`];
        const method = created[`${prefix}upload_method`] ?? "PUT";
        if (typeof url !== "string" || !isUsable(url)) continue;
        if (method === "PUT" || method === "POST") return { url, method };
    }
    return undefined;
}

function isUsable(text: string): boolean {
    if (text.length > MAX_URL_LENGTH || !URL.canParse(text)) return false;
    const { protocol, username, password } = new URL(text);
    // A user's name in it would become a header that nobody signed.
    return (protocol === "https:" || protocol === "http:") && username === "" && password === "";
}

/** Of the question that a plain 404 leads to. */
const TIMEOUT_MS = 10_000;
const PATHS = ["/_matrix/media/v1/upload/", "/_matrix/media/unstable/com.beeper.msc3870/upload/"] as const;

/** `POST …/upload/{serverName}/{mediaId}/complete` of one homeserver. */
export class MediaCompletion {
    /** The path that the server is known to have. */
    #known: (typeof PATHS)[number] | undefined;

    /** Tells that a file is in the storage. Rejects with NOT_SUPPORTED where the server has neither path, else as it answers. */
    complete(access: Access, mxc: MxcUri, filename?: string, signal?: AbortSignal): Promise<void> {
        return unlessMissing(access, signal, () => this.#tell(access, mxc, filename, signal));
    }

    async #tell(access: Access, mxc: MxcUri, filename?: string, signal?: AbortSignal): Promise<void> {
        const known = this.#known;
        const paths = known === undefined ? PATHS : [known, ...PATHS.filter((path) => path !== known)];
        let missing: unknown;
        for (const path of paths) {
            try {
                await matrixRequest(access, {
                    method: "POST",
                    path: `${path}${encodeURIComponent(mxc.serverName)}/${encodeURIComponent(mxc.mediaId)}/complete`,
                    query: { filename },
                    body: {},
                    refusals: UPLOAD_REFUSALS,
                    signal,
                });
                this.#known = path;
                return;
            } catch (error) {
                const isPlain = isPlainRefusal(error);
                if (!isPlain && !(error instanceof MediaError && error.code === "NOT_SUPPORTED")) throw error;
                // The one path's M_UNRECOGNIZED says nothing of the other where a proxy has answered that.
                if (isPlain || missing === undefined) missing = error;
            }
        }
        throw missing;
    }
}

/**
 * Asks an endpoint that a server may lack. It then says M_UNRECOGNIZED, and NOT_SUPPORTED has that errcode; or nothing but 404 or
 * 405, as older Dendrites do and a proxy that passes some paths only. So does a proxy whose homeserver is
 * away: that is HOMESERVER_ANSWER_INVALID. What every server has tells the one from the other.
 */
export async function unlessMissing<T>(
    access: Access,
    signal: AbortSignal | undefined,
    ask: () => Promise<T>,
): Promise<T> {
    return ask().catch(async (error: unknown) => {
        if (!isPlainRefusal(error) || !(await isThere(access, signal))) throw error;
        // Asked anew: it may have come back in between.
        return ask().catch((cause: unknown) => {
            throw isPlainRefusal(cause) ? new MediaError("NOT_SUPPORTED", { cause }) : cause;
        });
    });
}

function isPlainRefusal(error: unknown): boolean {
    if (!(error instanceof MediaError) || error.code !== "HOMESERVER_ANSWER_INVALID") return false;
    return error.status === 404 || error.status === 405;
}

/** Whether the homeserver answers by itself, well or not; also one before which a proxy passes some paths only. */
async function isThere(access: Access, signal: AbortSignal | undefined): Promise<boolean> {
    for (const path of ["/_matrix/media/v3/config", "/_matrix/client/v1/media/config", "/_matrix/client/versions"]) {
        const isAnswered = await matrixRequest(access, {
            method: "GET",
            path,
            refusals: UPLOAD_REFUSALS,
            signal,
            timeoutMs: TIMEOUT_MS,
        }).then(
            () => true,
            (error: unknown) => error instanceof MediaError && error.errcode !== undefined,
        );
        if (isAnswered) return true;
    }
    return false;
}
