import { createHash, type Hash } from "node:crypto";
import { MediaError } from "../../errors.ts";
import { type Answer, answerError, isSuccess, UPLOAD_REFUSALS } from "../../matrix/answer.ts";
import type { Access } from "../../matrix/client.ts";
import { hasContent } from "../../matrix/download-probe.ts";
import { oneStepUploadUrl, reservedUploadUrl } from "../../matrix/media-endpoints.ts";
import { isMxc, parseMxc } from "../../matrix/mxc.ts";
import { authorization, homeserverAgents, notJson } from "../../matrix/request.ts";
import type { Unrepeated } from "../../matrix/unrepeated.ts";
import type { StepLimits } from "../limits.ts";
import { putStream } from "./put-stream.ts";
import type { Target, Upload } from "./target.ts";

/** How long a homeserver may hold an address for a try that broke off; Synapse's lock lasts up to two minutes. */
const HELD_RETRY_MS = 5000;

/** Whoever uploads; of `ActingUsers` what is needed for it. Another thread has to ask for the access. */
interface Uploaders {
    get(userId: string): { access(): Access | Promise<Access> };
}

/** The homeserver's own upload: `PUT` to a reserved address, `POST` in one step where nothing was reserved. */
export class HomeserverTarget implements Target {
    readonly #users: Uploaders;
    readonly #limits: StepLimits;
    readonly #uris: Unrepeated;

    /** @param uris That the homeserver gave of late, whoever asked for them on the connections that this one uses. */
    constructor(users: Uploaders, limits: StepLimits, uris: Unrepeated) {
        this.#users = users;
        this.#limits = limits;
        this.#uris = uris;
    }

    async put(upload: Upload, signal: AbortSignal): Promise<string> {
        const access = await this.#users.get(upload.uploader).access();
        const mxc = upload.contentUri === undefined ? undefined : parseMxc(upload.contentUri);
        const digest = mxc === undefined ? createHash("sha256") : undefined;
        let isOwn = false;
        const answer = await putStream({
            method: mxc === undefined ? "POST" : "PUT",
            url:
                mxc === undefined
                    ? oneStepUploadUrl(access, upload.filename)
                    : reservedUploadUrl(access, mxc, upload.filename),
            headers: { ...authorization(access), "content-type": upload.mimetype },
            size: upload.size,
            body: digest === undefined ? upload.body : hashed(upload.body, digest),
            agents: homeserverAgents,
            limits: this.#limits,
            signal,
            isOwn: (given) => (isOwn = this.#isOwn(given, digest)),
        });
        if (isSuccess(answer.status)) {
            if (upload.contentUri !== undefined) {
                if (!isOwn) await this.#verify(access, upload, upload.contentUri, signal);
                return upload.contentUri;
            }
            if (isOwn) return answer.body["content_uri"] as string;
            throw new MediaError("HOMESERVER_ANSWER_INVALID", {
                detail: "no MXC URI, or another file's",
                ambiguous: true,
            });
        }
        const error = answerError(answer, UPLOAD_REFUSALS);
        if (upload.contentUri === undefined) throw error;
        // Client-Server API, `PUT /upload/{serverName}/{mediaId}`: 404 is an unknown or expired address. A missing
        // endpoint says M_UNRECOGNIZED and has its own code, and so has the 404 of a proxy.
        if (answer.status === 404 && error.code === "UPLOAD_REFUSED")
            throw new MediaError("RESERVATION_GONE", { cause: error });
        if (answer.status === 409) return this.#settle(access, upload, upload.contentUri, error, signal);
        throw error;
    }

    /** @param digest Of the bytes that have gone out, where an address is asked for with them. */
    #isOwn({ status, isJson, body }: Answer, digest: Hash | undefined): boolean {
        if (!isSuccess(status)) return false;
        if (digest === undefined) return isJson !== false && Object.keys(body).length === 0;
        const { content_uri: given } = body;
        // A homeserver may give one address to the same bytes.
        return isMxc(given) && this.#uris.isOwn(given, digest.digest("hex"));
    }

    /** Spec: the answer is `{}`. Anything else may be a proxy's, or another request's, and the file then nowhere. */
    async #verify(access: Access, wanted: Upload, contentUri: string, signal: AbortSignal): Promise<void> {
        if (!(await hasContent(access, contentUri, wanted, signal))) throw notJson();
    }

    /**
     * 409 means either that an earlier try got through and only its answer was lost, or that one which broke off still
     * holds the address. Nobody but us can have filled it, so content that is there is the file, as its source had it then.
     */
    async #settle(
        access: Access,
        { contentMayDiffer, mimetype }: Upload,
        contentUri: string,
        cause: MediaError,
        signal: AbortSignal,
    ): Promise<string> {
        if (await hasContent(access, contentUri, { mimetype }, signal)) {
            // Of no use to the event: its place has to be taken by another address.
            if (contentMayDiffer === true) throw new MediaError("RESERVATION_GONE", { cause });
            return contentUri;
        }
        throw new MediaError("UPLOAD_PENDING", { cause, retryAfterMs: HELD_RETRY_MS });
    }
}

async function* hashed(body: AsyncIterable<Uint8Array>, digest: Hash): AsyncIterable<Uint8Array> {
    for await (const piece of body) {
        digest.update(piece);
        yield piece;
    }
}
