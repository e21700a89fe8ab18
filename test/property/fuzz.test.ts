import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { expect } from "chai";
import contentDisposition from "content-disposition";
import fc from "fast-check";
import { MediaError } from "../../src/errors.ts";
import { answerError, toldWaitMs } from "../../src/matrix/answer.ts";
import type { Access } from "../../src/matrix/client.ts";
import { createMedia, fetchUploadLimit } from "../../src/matrix/media-endpoints.ts";
import { parseMxc } from "../../src/matrix/mxc.ts";
import { presignedAddress } from "../../src/matrix/presigned-endpoints.ts";
import { filenameOf, safeFilename } from "../../src/uploads/sources/filename.ts";
import { statusError } from "../../src/uploads/sources/status-error.ts";
import { checkTable } from "../../src/store/table-check.ts";
import { decompressed } from "../../src/store/snappy.ts";
import { assertBounded } from "../support/model.ts";

const anyText = fc.oneof(
    fc.string({ unit: "binary", maxLength: 300 }),
    fc.string({ unit: "grapheme", maxLength: 300 }),
    fc.string({
        unit: fc.constantFrom(
            "/",
            "\\",
            ".",
            "\u0000",
            "\n",
            "%",
            "\u202e",
            "\ud800",
            "a",
            " ",
            '"',
            ";",
            "=",
            "*",
            "'",
        ),
        maxLength: 40,
    }),
);
const json = fc.jsonValue({ maxDepth: 3 });

function expectSafe(name: string | undefined): void {
    if (name === undefined) return;
    expect(name).not.to.match(/[/\\]|\p{Cc}|\p{Cs}|[\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069]/u);
    expect(name.length).to.be.within(1, 255);
    expect(name).not.to.match(/^\.*$/);
    expect(name).to.equal(name.trim());
}

describe("what others send, whatever it is", function () {
    this.timeout(120_000);

    it("a file's name is fit to be shown, or there is none", () => {
        const parts = fc.constantFrom(
            "attachment",
            "inline",
            "; ",
            ";",
            "filename",
            "filename*",
            "=",
            "UTF-8''",
            "utf-8'en'",
            "ISO-8859-1''",
            '"',
            "%2F",
            "%e2%82",
            "..",
            "\\",
        );
        const header = fc.oneof(
            anyText,
            fc.array(fc.oneof(parts, anyText), { maxLength: 10 }).map((all) => all.join("")),
        );
        assertBounded(
            fc.property(anyText, (text) => expectSafe(safeFilename(text))),
            1000,
        );
        assertBounded(
            fc.property(fc.option(header, { nil: undefined }), fc.webUrl(), anyText, (disposition, url, path) => {
                expectSafe(filenameOf(disposition, url));
                const other = new URL(url);
                other.pathname = path;
                expectSafe(filenameOf(undefined, other.href));
            }),
            1000,
        );
    });

    it("a safe name comes through Content-Disposition as it is (RFC 6266, 8187)", () => {
        assertBounded(
            fc.property(fc.string({ unit: "grapheme", maxLength: 60 }), (text) => {
                const name = safeFilename(text);
                if (name === undefined || /[^\u0020-\u{10FFFF}]/u.test(name)) return;
                expect(filenameOf(contentDisposition(name), "https://example.org/other")).to.equal(name);
            }),
            1000,
        );
    });

    it("an MXC URI comes back as it was, or is refused", () => {
        const serverName = fc.oneof(
            fc.domain(),
            fc.ipV4(),
            fc.ipV6().map((address) => `[${address}]`),
        );
        const mediaId = fc.stringMatching(/^[0-9A-Za-z_-]{1,255}$/);
        assertBounded(
            fc.property(serverName, fc.option(fc.nat(65_535)), mediaId, (host, port, id) => {
                const server = port === null ? host : `${host}:${port}`;
                expect(parseMxc(`mxc://${server}/${id}`)).to.deep.equal({ serverName: server, mediaId: id });
                for (const tail of ["/", "?x", "#x", "/..", "\n"])
                    expect(() => parseMxc(`mxc://${server}/${id}${tail}`)).to.throw(MediaError);
            }),
            500,
        );
        assertBounded(
            fc.property(fc.oneof(anyText, json), (value) => {
                try {
                    parseMxc(value);
                } catch (error) {
                    expect(error).to.be.instanceOf(MediaError).with.property("code", "HOMESERVER_ANSWER_INVALID");
                }
            }),
            1000,
        );
    });

    it("a wait that was asked for is a number of milliseconds, or nothing", () => {
        const header = fc.oneof(
            anyText,
            fc.integer().map(String),
            fc.double().map(String),
            fc.date({ noInvalidDate: true }).map((date) => date.toUTCString()),
            fc.constantFrom("1e308", "0x10", "-1", "Infinity", "99999999999999999999"),
        );
        assertBounded(
            fc.property(fc.oneof(json, fc.double()), fc.option(header, { nil: undefined }), (body, retryAfter) => {
                const ms = toldWaitMs(body, retryAfter);
                if (ms === undefined) return;
                expect(Number.isFinite(ms), String(ms)).to.equal(true);
                expect(ms).to.be.at.least(0);
            }),
            1000,
        );
        assertBounded(
            fc.property(fc.nat(100_000), (seconds) => {
                expect(toldWaitMs(undefined, String(seconds))).to.equal(seconds * 1000);
                const date = new Date(1_700_000_000_000 + seconds * 1000).toUTCString();
                expect(toldWaitMs(undefined, date, 1_700_000_000_000)).to.equal(seconds * 1000);
            }),
            300,
        );
    });

    it("an error's body becomes one of our errors, with a message of a bounded length", () => {
        const errcode = fc.oneof(
            json,
            anyText,
            fc.constantFrom("M_FORBIDDEN", "M_LIMIT_EXCEEDED", "M_".padEnd(100_000, "X")),
        );
        const body = fc.record({ errcode, error: anyText, retry_after_ms: json }, { requiredKeys: [] });
        assertBounded(
            fc.property(
                fc.integer({ min: 100, max: 999 }),
                body,
                fc.option(anyText, { nil: undefined }),
                (status, said, retryAfter) => {
                    const error = answerError(
                        { status, body: said, retryAfter },
                        { tooLarge: "FILE_TOO_LARGE", refused: "UPLOAD_REFUSED" },
                    );
                    expect(error).to.be.instanceOf(MediaError);
                    expect(error.message.length).to.be.below(1000);
                    expect((error.errcode ?? "").length).to.be.below(300);
                    expect(statusError(status, retryAfter)).to.be.instanceOf(MediaError);
                },
            ),
            1000,
        );
    });

    it("a presigned address is one that can be used, or none", () => {
        const keys = fc.constantFrom(
            "upload_url",
            "upload_method",
            "com.beeper.msc3870.upload_url",
            "com.beeper.msc3870.upload_method",
        );
        const value = fc.oneof(
            json,
            anyText,
            fc.webUrl(),
            fc.constantFrom("PUT", "POST", "ftp://x/", "http://u:p@x/", "https://x/".padEnd(20_000, "y")),
        );
        assertBounded(
            fc.property(fc.dictionary(keys, value), (created) => {
                const found = presignedAddress(created);
                if (found === undefined) return;
                expect(found.url).to.match(/^https?:/i);
                expect(found.url.length).to.be.at.most(16 * 1024);
                expect(["PUT", "POST"]).to.include(found.method);
            }),
            500,
        );
    });

    it("bytes that are no table of LevelDB's, or no block of Snappy's, are no trouble", () => {
        const magic = Buffer.from("57fb808b247547db", "hex");
        assertBounded(
            fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
                decompressed(Buffer.from(bytes));
                checkTable(Buffer.from(bytes));
                checkTable(Buffer.concat([bytes, magic]));
            }),
            2000,
        );
    });

    describe("as the homeserver's answer", () => {
        let server: Server;
        let access: Access;
        let answer: { status: number; body: string; headers: Record<string, string> };
        before(async () => {
            server = createServer((request, response) => {
                request.resume();
                response.writeHead(answer.status, answer.headers).end(answer.body);
            });
            await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
            const homeserverUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
            access = { homeserverUrl, accessToken: "secret-token", userId: "@a:example.org" };
        });
        after(() => {
            server.closeAllConnections();
            server.close();
        });

        const status = fc.constantFrom(200, 200, 200, 201, 301, 400, 403, 404, 413, 429, 500, 504);
        const created = fc.record(
            {
                content_uri: fc.oneof(
                    json,
                    anyText,
                    fc.constantFrom("mxc://example.org/abc", "mxc://example.org/../x"),
                ),
                unused_expires_at: fc.oneof(json, fc.double(), fc.integer()),
                upload_url: fc.oneof(json, fc.webUrl()),
                errcode: fc.oneof(json, anyText),
            },
            { requiredKeys: [] },
        );
        const config = fc.record({ "m.upload.size": fc.oneof(json, fc.double(), fc.integer()) }, { requiredKeys: [] });
        const bodyOf = (good: fc.Arbitrary<unknown>) =>
            fc.oneof(
                good.map((value) => JSON.stringify(value)),
                fc.json(),
                anyText,
            );

        async function expectTyped<T>(asked: Promise<T>): Promise<T | undefined> {
            try {
                return await asked;
            } catch (error) {
                expect(error).to.be.instanceOf(MediaError);
                expect((error as MediaError).code).not.to.equal("INTERNAL");
                expect((error as MediaError).message).not.to.contain("secret-token");
                return undefined;
            }
        }

        it("/create gives an address that can be used, or one of our errors", async () => {
            await assertBounded(
                fc.asyncProperty(status, bodyOf(created), async (code, body) => {
                    answer = { status: code, body, headers: {} };
                    const media = await expectTyped(createMedia(access));
                    if (media === undefined) return;
                    expect(() => parseMxc(media.contentUri)).not.to.throw();
                    if (media.expiresAt !== undefined) expect(Number.isSafeInteger(media.expiresAt)).to.equal(true);
                }),
                400,
            );
        });

        it("the config gives a limit in whole bytes, none, or one of our errors", async () => {
            await assertBounded(
                fc.asyncProperty(status, bodyOf(config), async (code, body) => {
                    answer = { status: code, body, headers: {} };
                    const limit = await expectTyped(fetchUploadLimit(access));
                    if (limit !== undefined) expect(Number.isSafeInteger(limit) && limit > 0).to.equal(true);
                }),
                400,
            );
        });
    });
});
