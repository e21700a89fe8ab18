import { asMediaError, type ErrorCode, MediaError } from "../../errors.ts";
import type { ActingUsers } from "../../matrix/client.ts";
import { hasUsableContent } from "../../matrix/download-probe.ts";
import { parseMxc } from "../../matrix/mxc.ts";
import { MediaCompletion } from "../../matrix/presigned-endpoints.ts";
import { ENCRYPTED_TYPE } from "../encryption/job-encryption.ts";
import type { Job } from "../job.ts";

/**
 * Tells the homeserver that a presigned file is in its storage. The bytes are not touched, so it can be repeated as often
 * as it takes. A homeserver that does not want or find the object gets the file itself instead: PRESIGNED_REFUSED.
 */
export class Completion {
    readonly #users: ActingUsers;
    readonly #endpoint = new MediaCompletion();

    constructor(users: ActingUsers) {
        this.#users = users;
    }

    /** Returns the MXC URI, whose content can be downloaded now. Rejects with a MediaError. */
    async complete(job: Job, signal: AbortSignal): Promise<string> {
        const { uploader, contentUri, filename, encryption, size } = job;
        if (contentUri === undefined) throw new MediaError("INTERNAL", { detail: "presigned without an MXC" });
        const access = this.#users.get(uploader).access();
        // What an encrypted file is, only its event says.
        const name = encryption === undefined ? filename : undefined;
        try {
            await this.#endpoint.complete(access, parseMxc(contentUri), name, signal);
        } catch (thrown) {
            const error = asMediaError(thrown);
            if (!isDoubtful(error)) throw REFUSALS.has(error.code) ? refused(error) : error;
            const wanted = { size, mimetype: encryption === undefined ? job.mimetype : ENCRYPTED_TYPE };
            if (!(await hasUsableContent(access, contentUri, wanted, signal))) throw refused(error);
        }
        return contentUri;
    }
}

/** What a homeserver may say of the object, or instead of having the endpoint. */
const REFUSALS = new Set<ErrorCode>(["UPLOAD_REFUSED", "NOT_SUPPORTED", "FORBIDDEN"]);

/** 409: told before, and the answer was lost; 404: either the address is gone or the object. */
function isDoubtful({ code, status }: MediaError): boolean {
    return code === "UPLOAD_REFUSED" && (status === 409 || status === 404);
}

function refused(cause: MediaError): MediaError {
    const { status, errcode } = cause;
    return new MediaError("PRESIGNED_REFUSED", {
        cause,
        detail: `the homeserver does not take the object: HTTP ${status ?? "?"} ${errcode ?? ""}`.trimEnd(),
        ...(status !== undefined && { status }),
        ...(errcode !== undefined && { errcode }),
    });
}
