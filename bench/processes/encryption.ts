import { createCipheriv, createHash, randomBytes } from "node:crypto";
import type * as Cipher from "../../src/uploads/encryption/attachment-cipher.ts";
import type * as Body from "../../src/uploads/encryption/encrypted-body.ts";
import { loadFromBuilt } from "./built.ts";
import { serve, usage } from "./serve.ts";

/**
 * Encryption alone, without network or disk: the same chunks through node:crypto's own AES-256-CTR and SHA-256, and
 * through the component's way of encrypting a body.
 */
const CHUNK = randomBytes(256 * 1024);

async function* chunks(bytes: number): AsyncGenerator<Uint8Array> {
    for (let sent = 0; sent < bytes; sent += CHUNK.length)
        yield CHUNK.subarray(0, Math.min(bytes - sent, CHUNK.length));
}

async function timed(action: () => Promise<unknown>): Promise<number> {
    const began = performance.now();
    await action();
    return (performance.now() - began) / 1000;
}

const { AttachmentCipher, newSecret } = await loadFromBuilt<typeof Cipher>("uploads/encryption/attachment-cipher.js");
const { encrypted, encryptedAgain } = await loadFromBuilt<typeof Body>("uploads/encryption/encrypted-body.js");

async function firstPass(bytes: number) {
    const cipher = new AttachmentCipher(newSecret());
    for await (const _ of encrypted(chunks(bytes), cipher));
    return cipher.finish();
}

const handlers = {
    bare: (bytes: number) =>
        timed(async () => {
            const cipher = createCipheriv("aes-256-ctr", randomBytes(32), randomBytes(16));
            const hash = createHash("sha256");
            for await (const chunk of chunks(bytes)) hash.update(cipher.update(chunk));
            hash.digest();
        }),
    firstPass: (bytes: number) => timed(() => firstPass(bytes)),
    secondPass: async (bytes: number) => {
        const file = await firstPass(bytes);
        return timed(async () => {
            for await (const _ of encryptedAgain(chunks(bytes), file, bytes));
        });
    },
    usage,
};
export type EncryptionHandlers = typeof handlers;
serve(handlers);
