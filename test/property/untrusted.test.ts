import { expect } from "chai";
import fc from "fast-check";
import { asMediaError } from "../../src/errors.ts";
import { parseJsonObject } from "../../src/matrix/answer.ts";
import { parseMxc } from "../../src/matrix/mxc.ts";
import { decodeRecord, encodeRecord } from "../../src/store/record-codec.ts";
import { addressPolicy } from "../../src/uploads/sources/address-guard.ts";
import { counted } from "../../src/uploads/counted.ts";

describe("what is not trusted", () => {
    it("an MXC URI is read whole or refused", () => {
        fc.assert(
            fc.property(
                fc.oneof(
                    fc.string(),
                    fc.tuple(fc.string(), fc.string()).map(([a, b]) => `mxc://${a}/${b}`),
                ),
                (text) => {
                    try {
                        const { serverName, mediaId } = parseMxc(text);
                        expect(`mxc://${serverName}/${mediaId}`).to.equal(text);
                        expect(mediaId).to.match(/^[\w-]+$/);
                    } catch (error) {
                        expect(error).to.include({ code: "HOMESERVER_ANSWER_INVALID" });
                    }
                },
            ),
        );
    });

    it("an answer that is no JSON object counts as an empty one", () => {
        fc.assert(
            fc.property(
                fc.oneof(fc.string(), fc.json()),
                (text) => void expect(parseJsonObject(text)).to.be.an("object"),
            ),
        );
    });

    it("a record comes back as written, and never when a character of it changed", () => {
        fc.assert(
            fc.property(fc.string(), fc.dictionary(fc.string(), fc.jsonValue()), fc.nat(), (key, record, position) => {
                const value = encodeRecord(key, record);
                const decoded = decodeRecord(key, value);
                expect(decoded.kind).to.equal("sound");
                if (decoded.kind === "sound") expect(JSON.stringify(decoded.record)).to.equal(JSON.stringify(record));
                const index = position % value.length;
                const garbled = value.slice(0, index) + (value[index] === "x" ? "y" : "x") + value.slice(index + 1);
                expect(decodeRecord(key, garbled).kind).not.to.equal("sound");
                expect(decodeRecord(`${key}!`, value).kind).to.equal("damaged");
            }),
        );
    });

    it("private addresses are refused in every family and spelling, unless listed", () => {
        const allowed = addressPolicy(false);
        const refused = [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ];
        const refusedV6 = [
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:7f00:1",
            "64:ff9b::7f00:1",
        ];
        for (const address of [...refused, ...refusedV6, "nonsense"]) expect(allowed(address), address).to.equal(false);
        for (const address of ["1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"])
            expect(allowed(address), address).to.equal(true);
        const listed = addressPolicy(["10.0.0.0/8", "fd00::/8"]);
        expect([listed("10.9.9.9"), listed("fd12::1"), listed("::ffff:10.0.0.1"), listed("192.168.0.1")]).to.deep.equal(
            [true, true, true, false],
        );
    });

    it("a body passes exactly, or never to its end", async () => {
        await fc.assert(
            fc.asyncProperty(
                fc.array(fc.uint8Array({ maxLength: 50 })),
                fc.option(fc.nat(300)),
                async (chunks, size) => {
                    const whole = Buffer.concat(chunks);
                    const passed: Uint8Array[] = [];
                    async function* body(): AsyncGenerator<Uint8Array> {
                        yield* chunks;
                    }
                    try {
                        const limits = { size: size ?? undefined, maxBytes: 200 };
                        for await (const chunk of counted(
                            body(),
                            limits,
                            {},
                            {
                                explain: (error) => asMediaError(error),
                            },
                        ))
                            passed.push(chunk);
                        expect(Buffer.concat(passed).equals(whole)).to.equal(true);
                        expect(whole.length).to.be.at.most(200);
                        if (size !== null) expect(whole.length).to.equal(size);
                    } catch (error) {
                        expect(error)
                            .to.have.property("code")
                            .that.is.oneOf(["FILE_TOO_LARGE", "SOURCE_LENGTH_MISMATCH"]);
                        expect(Buffer.concat(passed).length).to.be.below(Math.max(1, whole.length));
                    }
                },
            ),
        );
    });
});
