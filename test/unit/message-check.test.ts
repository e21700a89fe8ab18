import { expect } from "chai";
import { checkMessage } from "../../src/bridge/message-check.ts";
import { checkOptions } from "../../src/bridge/options-check.ts";
import { fingerprintOf } from "../../src/bridge/records.ts";
import type { MediaError } from "../../src/errors.ts";
import type { RemoteMessage } from "../../src/index.ts";

const good = {
    id: "a/1",
    roomId: "!room:example.org",
    sender: "@ghost:example.org",
    content: { msgtype: "m.image", body: "cat.jpg" },
    media: [{ at: ["url"], source: { kind: "http", url: "https://files.example.org/cat.jpg" } }],
};

function refusal(check: () => unknown): MediaError {
    try {
        check();
    } catch (error) {
        return error as MediaError;
    }
    throw new Error("It was let through");
}

describe("the door", () => {
    it("lets a good message through as it is", () => {
        expect(checkMessage(good)).to.deep.equal(good);
    });

    it("takes the places of encrypted files for those in the clear, and a bridge's own for what they are", () => {
        const placesOf = (eventType: string, ...places: string[][]): string[] => {
            const media = places.map((at) => ({ ...good.media[0], at }));
            const content = { ...good.content, items: [{}] };
            return checkMessage({ ...good, eventType, content, media }).media?.map(({ at }) => at.join(".")) ?? [];
        };
        const places = [["file"], ["info", "thumbnail_file"], ["items", "0", "file"], ["data", "file"]];
        const plain = ["url", "info.thumbnail_url", "items.0.url", "data.file"];
        expect(placesOf("m.room.message", ...places)).to.deep.equal(plain);
        expect(placesOf("m.sticker", ...places)).to.deep.equal(plain);
        expect(placesOf("org.x.own", ...places)).to.deep.equal(places.map((at) => at.join(".")));
    });

    const bad: [field: string, message: unknown][] = [
        ["message", undefined],
        ["message", "text"],
        ["id", { ...good, id: "" }],
        ["id", { ...good, id: "a\u0001b" }],
        ["id", { ...good, id: "x".repeat(513) }],
        ["roomId", { ...good, roomId: "room" }],
        ["roomId", { ...good, roomId: "!room with spaces" }],
        ["sender", { ...good, sender: "alice" }],
        ["timestamp", { ...good, timestamp: "now" }],
        ["timestamp", { ...good, timestamp: -1 }],
        ["content", { ...good, content: { body: "x".repeat(70_000) } }],
        ["content.info", { ...good, content: { info: () => {} } }],
        ["content.info.w", { ...good, content: { info: { w: Number.NaN } } }],
        ["content.list[1]", { ...good, content: { list: [1, undefined] } }],
        ["content.at", { ...good, content: { at: new Date(0) } }],
        ["surprise", { ...good, surprise: true }],
        ["media[0].at", { ...good, media: [{ ...good.media[0], at: [] }] }],
        ["media", { ...good, media: [good.media[0], { ...good.media[0], at: ["file"] }] }],
        ["media[0].at[0]", { ...good, media: [{ ...good.media[0], at: ["__proto__"] }] }],
        [
            "media[0].source.url",
            { ...good, media: [{ at: ["url"], source: { kind: "http", url: "file:///etc/passwd" } }] },
        ],
        ["media[0].source.kind", { ...good, media: [{ at: ["url"], source: { kind: "ftp" } }] }],
        [
            "media[0].source.headers.X-A",
            {
                ...good,
                media: [{ at: ["url"], source: { kind: "http", url: "http://a", headers: { "X-A": "1\r\nX-B: 2" } } }],
            },
        ],
        ["media[0].mimetype", { ...good, media: [{ ...good.media[0], mimetype: "picture" }] }],
        ["media[0].size", { ...good, media: [{ ...good.media[0], size: 1.5 }] }],
        ["media", { ...good, media: [good.media[0], good.media[0]] }],
        ["backfill", { ...good, backfill: "yes" }],
        ["media[0].publicUrl", { ...good, media: [{ ...good.media[0], publicUrl: "javascript:alert(1)" }] }],
        ["media[0].publicUrl", { ...good, media: [{ ...good.media[0], publicUrl: "https://a:b@example.org/" }] }],
    ];
    for (const [field, message] of bad) {
        it(`refuses ${JSON.stringify(message)?.slice(0, 90)} naming ${field}`, () => {
            expect(refusal(() => checkMessage(message))).to.include({ code: "INVALID_ARGUMENT", field });
        });
    }

    it("takes what is undefined in an object as left out, as JSON does, and not in an array", () => {
        const info = { w: undefined, h: 2, deep: [{ x: undefined, y: 1 }] };
        const ref = { id: 1, none: undefined };
        const media = [{ at: ["url"], source: { kind: "connector", connector: "c", ref } }];
        const message = { ...good, content: { body: "x", "m.mentions": undefined, info }, media };
        const plain = JSON.parse(JSON.stringify(message)) as RemoteMessage;
        const checked = checkMessage(message);
        expect(checked).to.deep.equal(plain);
        expect(Object.keys(checked.content)).to.deep.equal(["body", "info"]);
        expect(fingerprintOf(checked)).to.equal(fingerprintOf(checkMessage(plain)));
        expect(info, "what the caller has").to.have.property("w");
        const list = { ...good, content: { list: [1, undefined] } };
        expect(refusal(() => checkMessage(list))).to.include({ field: "content.list[1]" });
    });

    it("refuses a circle, naming where it begins to be too deep", () => {
        const info: Record<string, unknown> = {};
        info["again"] = info;
        const { code, field } = refusal(() => checkMessage({ ...good, content: { info } }));
        expect(code).to.equal("INVALID_ARGUMENT");
        expect(field).to.match(/^content\.info\.again\./);
    });

    it("refuses options by name", () => {
        const options: [field: string, given: object][] = [
            ["dataDir", {}],
            ["concurency", { dataDir: "x", concurency: 5 }],
            ["concurrency", { dataDir: "x", concurrency: 0 }],
            ["timeLimits.idleMs", { dataDir: "x", timeLimits: { idleMs: 0 } }],
            ["allowPrivateAddresses", { dataDir: "x", allowPrivateAddresses: ["10.0.0.0/99"] }],
            ["connectors.slack", { dataDir: "x", connectors: { slack: {} } }],
            ["logger", { dataDir: "x", logger: {} }],
            ["onFailure", { dataDir: "x", onFailure: "shout" }],
            ["failureTexts.NO_SUCH_CODE", { dataDir: "x", failureTexts: { NO_SUCH_CODE: "x" } }],
            ["failureTexts.reasons.NO_SUCH_CODE", { dataDir: "x", failureTexts: { reasons: { NO_SUCH_CODE: "x" } } }],
            ["failureTexts.reasons.CANCELLED", { dataDir: "x", failureTexts: { reasons: { CANCELLED: 1 } } }],
            ["failureTexts.reasons", { dataDir: "x", failureTexts: { reasons: "x" } }],
            ["failureTexts.default", { dataDir: "x", failureTexts: { default: "{who} did it" } }],
            ["failureTexts.default", { dataDir: "x", failureTexts: { default: "[[{name}]]" } }],
        ];
        for (const [field, given] of options) {
            expect(
                refusal(() => checkOptions(given as never)),
                field,
            ).to.include({ code: "INVALID_OPTION", field });
        }
    });
});
