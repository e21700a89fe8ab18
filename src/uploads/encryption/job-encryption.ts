import type { EncryptedFile } from "./attachment-cipher.ts";

/**
 * What an upload job of an encrypted room has beside a plain one. Its file is *prepared*, which means read and
 * encrypted once, before its event is sent, because the event carries the ciphertext's hash.
 *
 * *spool* keeps the ciphertext on disk and uploads that. *two-pass* keeps only the hash: the source is read again for the
 * upload, and must be what it was. Where it is not, the job is stale: the next try prepares it anew with another key,
 * for the same key and IV must never encrypt two contents, and the event is edited.
 */
export type EncryptionStrategy = "spool" | "two-pass";

/** What an encrypted file is uploaded as: what it is, only its event says. */
export const ENCRYPTED_TYPE = "application/octet-stream";

export interface JobEncryption {
    readonly strategy: EncryptionStrategy;
    /** Undefined until it is prepared, and again once no event will need it. Holds the key. */
    readonly file?: EncryptedFile | undefined;
    /** Bytes, of source and ciphertext alike. */
    readonly size?: number | undefined;
    /** The job's source is the ciphertext itself, in the spool. @default false */
    readonly spooled?: boolean | undefined;
    /** The source is no longer what was prepared. @default false */
    readonly stale?: boolean | undefined;
    /** It was prepared more than once: what the homeserver may have got in an earlier try had another key. @default false */
    readonly renewed?: boolean | undefined;
}

/** What a preparation found out. */
export interface Prepared {
    readonly file: EncryptedFile;
    readonly size: number;
    /** Name of the ciphertext in the spool; undefined where only its hash was kept. */
    readonly spoolName: string | undefined;
}

export function mustPrepare({ encryption }: { readonly encryption?: JobEncryption | undefined }): boolean {
    return encryption !== undefined && (encryption.file === undefined || encryption.stale === true);
}

/** The job's encryption after a preparation. */
export function afterPreparation(before: JobEncryption, { file, size, spoolName }: Prepared): JobEncryption {
    const renewed = before.renewed === true || before.file !== undefined;
    return { strategy: before.strategy, file, size, spooled: spoolName !== undefined, stale: false, renewed };
}

const SPOOL_SUFFIX = ".encrypted";

/** Apart from the name under which the job's own bytes may lie there. */
export function ciphertextName(jobId: string): string {
    return jobId + SPOOL_SUFFIX;
}

/** The job to which a name in the spool belongs. */
export function jobOfSpoolName(name: string): string {
    return name.endsWith(SPOOL_SUFFIX) ? name.slice(0, -SPOOL_SUFFIX.length) : name;
}
