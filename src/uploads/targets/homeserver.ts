import { MediaError } from "../../errors.ts";
import { type Answer, answerError, isSuccess, UPLOAD_REFUSALS } from "../../matrix/answer.ts";
import type { Access } from "../../matrix/client.ts";
import { hasContent } from "../../matrix/download-probe.ts";
import { oneStepUploadUrl, reservedUploadUrl } from "../../matrix/media-endpoints.ts";
import { parseMxc } from "../../matrix/mxc.ts";
import { Unrepeated } from "../../matrix/unrepeated.ts";
import { authorization, homeserverAgents, notJson } from "../../matrix/request.ts";
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
    /** Addresses that uploads in one step got. */
    readonly #answers = new Unrepeated();

    constructor(users: Uploaders, limits: StepLimits) {
        this.#users = users;
        this.#limits = limits;
    }

    async put(upload: Upload, signal: AbortSignal): Promise<string> {
        const access = await this.#users.get(upload.uploader).access();
        const mxc = upload.contentUri === undefined ? undefined : parseMxc(upload.contentUri);
        const answer = await putStream({
            method: mxc === undefined ? "POST" : "PUT",
            url:
                mxc === undefined
                    ? oneStepUploadUrl(access, upload.filename)
                    : reservedUploadUrl(access, mxc, upload.filename),
            headers: { ...authorization(access), "content-type": upload.mimetype },
            size: upload.size,
            body: upload.body,
            agents: homeserverAgents,
            limits: this.#limits,
            signal,
            isOwn: (given) => this.#isOwn(given, upload),
        });
        if (isSuccess(answer.status)) {
            if (upload.contentUri === undefined) return this.#given(answer, upload);
            if (!isEmpty(answer)) await this.#verify(access, upload, upload.contentUri, signal);
            return upload.contentUri;
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

    #isOwn(answer: Answer, upload: Upload): boolean {
        if (!isSuccess(answer.status)) return true;
        if (upload.contentUri !== undefined) return isEmpty(answer);
        try {
            this.#given(answer, upload);
            return true;
        } catch {
            return false;
        }
    }

    /** The address that an upload in one step got. A homeserver may give one address to what is the same file. */
    #given({ body }: Answer, { size, mimetype }: Upload): string {
        const contentUri = body["content_uri"];
        parseMxc(contentUri);
        this.#answers.check(contentUri as string, `${size} ${mimetype}`);
        return contentUri as string;
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

function isEmpty({ isJson, body }: Answer): boolean {
    return isJson !== false && Object.keys(body).length === 0;
}
