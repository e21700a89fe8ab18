import { createCipheriv, createHash, randomBytes } from "node:crypto";

/**
 * Encrypted attachments (Client-Server API, "Sending encrypted attachments"): AES-CTR with a key and an IV used for
 * one file only, and the SHA-256 of what comes out, which the event carries. CTR keeps the length, so memory and time
 * are those of a stream.
 */

/** What an event says of an encrypted file, apart from its MXC URI: `EncryptedFile`, version 2. It holds the key. */
export interface EncryptedFile {
    readonly v: "v2";
    readonly key: {
        readonly kty: "oct";
        readonly key_ops: readonly ["encrypt", "decrypt"];
        readonly alg: "A256CTR";
        /** 32 bytes, base64url without padding. */
        readonly k: string;
        readonly ext: true;
    };
    /** 16 bytes, base64 without padding. */
    readonly iv: string;
    /** Of the ciphertext; base64 without padding. */
    readonly hashes: { readonly sha256: string };
}

/** The key and the IV of one file. */
export type FileSecret = Omit<EncryptedFile, "hashes">;

const IV_BYTES = 16;
const RANDOM_IV_BYTES = 8;

/** A secret for one file. The low half of the IV is the block counter, which starts at zero so that it never wraps. */
export function newSecret(): FileSecret {
    const iv = Buffer.concat([randomBytes(RANDOM_IV_BYTES), Buffer.alloc(IV_BYTES - RANDOM_IV_BYTES)]);
    const k = randomBytes(32).toString("base64url");
    return {
        v: "v2",
        key: { kty: "oct", key_ops: ["encrypt", "decrypt"], alg: "A256CTR", k, ext: true },
        iv: unpadded(iv),
    };
}

/** Encrypts one file from its beginning to its end. */
export class AttachmentCipher {
    readonly #secret: FileSecret;
    readonly #cipher;
    readonly #hash = createHash("sha256");
    #size = 0;

    constructor(secret: FileSecret) {
        this.#secret = secret;
        const key = Buffer.from(secret.key.k, "base64url");
        this.#cipher = createCipheriv("aes-256-ctr", key, Buffer.from(secret.iv, "base64"));
    }

    /** Bytes so far. */
    get size(): number {
        return this.#size;
    }

    update(chunk: Uint8Array): Buffer {
        this.#size += chunk.length;
        const ciphertext = this.#cipher.update(chunk);
        this.#hash.update(ciphertext);
        return ciphertext;
    }

    /** To be called once, after the last chunk. */
    finish(): EncryptedFile {
        const { v, key, iv } = this.#secret;
        return { v, key, iv, hashes: { sha256: unpadded(this.#hash.digest()) } };
    }
}

function unpadded(bytes: Buffer): string {
    return bytes.toString("base64").replace(/=+$/, "");
}
