import { createCipheriv, createHash } from "node:crypto";
import { expect } from "chai";
import fc from "fast-check";
import { MediaError } from "../../src/errors.ts";
import { AttachmentCipher, newSecret } from "../../src/uploads/encryption/attachment-cipher.ts";
import { encrypted, encryptedAgain } from "../../src/uploads/encryption/encrypted-body.ts";

/** Chunks around the block size and around a page, empty ones too. */
const chunk = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc.integer({ min: 4080, max: 4112 }).map((length) => new Uint8Array(length).fill(length)),
);
const chunks = fc.array(chunk, { maxLength: 12 });

async function* stream(pieces: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
    for (const piece of pieces) yield piece;
}

async function read(body: AsyncIterable<Uint8Array>, into: Uint8Array[] = []): Promise<Buffer> {
    for await (const piece of body) into.push(piece);
    return Buffer.concat(into);
}

describe("an attachment's cipher", () => {
    it("gives, however the bytes come in, what node:crypto gives for all of them at once", async () => {
        await fc.assert(
            fc.asyncProperty(chunks, async (pieces) => {
                const secret = newSecret();
                const cipher = new AttachmentCipher(secret);
                const ciphertext = await read(encrypted(stream(pieces), cipher));
                const file = cipher.finish();
                const iv = Buffer.from(secret.iv, "base64");
                expect(iv).to.have.length(16);
                expect(iv.readBigUInt64BE(8)).to.equal(0n);
                const once = createCipheriv("aes-256-ctr", Buffer.from(secret.key.k, "base64url"), iv);
                expect(ciphertext.equals(once.update(Buffer.concat(pieces)))).to.equal(true);
                const sha256 = createHash("sha256").update(ciphertext).digest("base64").replace(/=+$/, "");
                expect(file).to.deep.equal({ ...secret, hashes: { sha256 } });
                expect(
                    (await read(encryptedAgain(stream(pieces), file, ciphertext.length))).equals(ciphertext),
                ).to.equal(true);
            }),
        );
    });

    it("never completes a source that has changed", async () => {
        await fc.assert(
            fc.asyncProperty(chunks, chunks, async (before, after) => {
                const [was, is] = [Buffer.concat(before), Buffer.concat(after)];
                fc.pre(!was.equals(is));
                const cipher = new AttachmentCipher(newSecret());
                await read(encrypted(stream(before), cipher));
                const passed: Uint8Array[] = [];
                const error: unknown = await read(
                    encryptedAgain(stream(after), cipher.finish(), was.length),
                    passed,
                ).then(
                    () => undefined,
                    (reason: unknown) => reason,
                );
                expect(error).to.be.instanceOf(MediaError).and.include({ code: "SOURCE_CHANGED" });
                expect(Buffer.concat(passed).length).to.be.lessThanOrEqual(Math.max(0, was.length - 1));
            }),
            { numRuns: 300, examples: [[[new Uint8Array([1])], [new Uint8Array([2]), new Uint8Array(0)]]] },
        );
    });

    it("uses no secret twice", () => {
        const secrets = Array.from({ length: 100 }, newSecret);
        expect(new Set(secrets.map(({ key }) => key.k)).size).to.equal(100);
        expect(new Set(secrets.map(({ iv }) => iv)).size).to.equal(100);
    });
});
