import { expect } from "chai";
import { contentFor, describedFile, replacement } from "../../src/bridge/event-content.ts";
import { byteSize } from "../../src/bridge/failure-notice.ts";
import type { Job } from "../../src/uploads/job.ts";
import { someJob } from "../support/job.ts";

const job = (fields: Partial<Job>): Job => someJob({ state: "done", at: ["url"], contentUri: "mxc://b/1", ...fields });
const content = { msgtype: "m.image", body: "cat.jpg", info: { mimetype: "image/jpeg", size: 3 } };

describe("what an event shows", () => {
    it("the MXC URIs in their places, the given content untouched", () => {
        const shown = contentFor(
            content,
            [job({}), job({ at: ["info", "thumbnail_url"], contentUri: "mxc://b/2" })],
            "notice",
        );
        expect(shown).to.deep.equal({
            ...content,
            url: "mxc://b/1",
            info: { ...content.info, thumbnail_url: "mxc://b/2" },
        });
        expect(content).not.to.have.property("url");
    });

    it("a notice without the source's words, or the event as it is when that is wanted", () => {
        const failed = job({
            state: "failed",
            filename: "cat.jpg",
            size: 2048,
            error: { code: "SOURCE_FORBIDDEN", message: "HTTP 403 token=secret" },
        });
        const shown = contentFor(content, [failed], "notice");
        expect(shown["body"]).to.match(/^cat\.jpg \(2\.0 KiB\) could not be bridged: the source gives no access/);
        expect(JSON.stringify(shown)).not.to.contain("secret");
        expect(contentFor(content, [failed], "keep")).to.deep.equal({ ...content, url: "mxc://b/1" });
    });

    it("a notice with the limit, and with a link where one is public, escaped", () => {
        const failed = job({
            state: "failed",
            filename: "<b>.mp4",
            error: { code: "FILE_TOO_LARGE", message: "", limit: 50 * 2 ** 20 },
            publicUrl: "https://example.org/?a=1&b='2'",
        });
        const shown = contentFor({ msgtype: "m.video", body: "1 < 2", filename: "<b>.mp4" }, [failed], "notice");
        expect(shown["body"]).to.equal(
            "<b>.mp4 could not be bridged: the file is larger than the limit of 50.0 MiB. Original: https://example.org/?a=1&b='2'\n\n1 < 2",
        );
        const href = "https://example.org/?a=1&#38;b=&#39;2&#39;";
        expect(shown["formatted_body"]).to.equal(
            `&#60;b&#62;.mp4 could not be bridged: the file is larger than the limit of 50.0 MiB. Original: <a href="${href}">${href}</a><br><br>1 &#60; 2`,
        );
    });

    it("a notice in other words: the code's before those for all, without what is not known", () => {
        const texts = {
            default: "{name}[ ({size})]: <{reason}>",
            SOURCE_NOT_FOUND: "{name} ist weg",
            unnamed: "Datei",
            reasons: { SOURCE_TIMEOUT: "dauert <zu lange>" },
        };
        const shown = (fields: Partial<Job>) =>
            contentFor(content, [job({ state: "failed", ...fields })], { mode: "notice", texts })["body"];
        expect(shown({ error: { code: "SOURCE_NOT_FOUND", message: "" } })).to.equal("Datei ist weg");
        expect(shown({ filename: "{size}", error: { code: "QUOTA_EXCEEDED", message: "" } })).to.match(
            /^\{size\}: <the homeserver has no space left/,
        );
        expect(shown({ error: { code: "SOURCE_TIMEOUT", message: "" } })).to.equal("Datei: <dauert <zu lange>>");
        expect(shown({ size: 2048, state: "cancelled" })).to.equal("Datei (2.0 KiB): <the upload was cancelled>");
    });

    it("keeps a reply's relation out of the new content of its edit", () => {
        const reply = { ...content, "m.relates_to": { "m.in_reply_to": { event_id: "$a" } } };
        const edit = replacement("$event", reply);
        expect(edit["m.new_content"]).to.deep.equal(content);
        expect(edit["m.relates_to"]).to.deep.equal({ rel_type: "m.replace", event_id: "$event" });
    });

    it("mentions nobody again because a file has come or gone", () => {
        const mentions = { user_ids: ["@bob:example.org"] };
        const mentioning = { ...content, "m.mentions": mentions };
        const edit = replacement("$event", mentioning);
        expect(edit["m.mentions"]).to.deep.equal({});
        expect(edit["m.new_content"]).to.deep.equal(mentioning);
        expect(replacement("$event", mentioning, true)["m.mentions"]).to.deep.equal(mentions);
        expect(replacement("$event", content)).not.to.have.property("m.mentions");
    });

    it("takes a file's type, size and name from beside its place", () => {
        expect(describedFile(content, ["url"])).to.deep.equal({ mimetype: "image/jpeg", size: 3, filename: "cat.jpg" });
        const withThumbnail = { info: { thumbnail_info: { mimetype: "image/png", size: -1 } } };
        expect(describedFile(withThumbnail, ["info", "thumbnail_url"])).to.deep.equal({
            mimetype: "image/png",
            size: undefined,
            filename: undefined,
        });
    });

    it("says sizes as people do", () => {
        expect([0, 1, 1023, 1024, 1536, 48_213, 2 ** 40].map(byteSize)).to.deep.equal([
            "0 bytes",
            "1 bytes",
            "1023 bytes",
            "1.0 KiB",
            "1.5 KiB",
            "47.1 KiB",
            "1.0 TiB",
        ]);
    });
});
