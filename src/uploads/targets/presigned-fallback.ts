import type { MediaError } from "../../errors.ts";
import { mayPass } from "../../matrix/answer.ts";
import type { Job, PresignedUpload } from "../job.ts";
import { retryDelay, type Verdict } from "../retry.ts";

/**
 * What becomes of a presigned target after a failure. The homeserver takes the file at the same MXC in any case (MSC3870),
 * so nothing that goes wrong at the storage may fail a file, and none of it uses up one of its tries.
 */
export interface PresignedFallback {
    /** What is left of the target; undefined: the homeserver's own upload, with all the tries that a file has. */
    readonly presigned: PresignedUpload | undefined;
    readonly delayMs: number;
}

/** Tries at a storage that cannot be reached or is failing; the last one's failure moves on to the homeserver. */
export const PRESIGNED_TRIES = 3;

const TO_THE_HOMESERVER: PresignedFallback = { presigned: undefined, delayMs: 0 };

/**
 * Undefined where the failure is none of the target's: then `verdict`, the retry rules' own, stands.
 * @param verdict What the retry rules say.
 */
export function presignedFallback(
    { state, presigned }: Pick<Job, "state" | "presigned">,
    error: MediaError,
    verdict: Verdict,
    random: () => number = Math.random,
): PresignedFallback | undefined {
    if (presigned === undefined) return undefined;
    // Refused once, refused again: the address has expired, or was never good.
    if (error.code === "PRESIGNED_REFUSED") return TO_THE_HOMESERVER;
    if (state === "completing") {
        // The storage has the file, but the homeserver keeps failing over it while others get through.
        return mayPass(error) && verdict.action === "give-up" ? TO_THE_HOMESERVER : undefined;
    }
    if (error.code !== "PRESIGNED_UNAVAILABLE" && error.code !== "TRANSFER_TIMEOUT") return undefined;
    const failures = (presigned.failures ?? 0) + 1;
    if (failures >= PRESIGNED_TRIES) return TO_THE_HOMESERVER;
    return { presigned: { ...presigned, failures }, delayMs: retryDelay(error, failures - 1, random) };
}
