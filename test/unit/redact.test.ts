import { expect } from "chai";
import { redactText, redactUrl } from "../../src/redact.ts";

describe("redaction", () => {
    it("leaves of a URL what is no secret", () => {
        expect(redactUrl("https://user:pw@cdn.example.org:8443/a/b.jpg?X-Amz-Signature=abc#frag")).to.equal(
            "https://cdn.example.org:8443/a/b.jpg?…",
        );
        expect(redactUrl("nonsense")).to.equal("[not a URL]");
    });

    it("finds secrets within a text", () => {
        const text = "GET https://a.org/x?sig=1 failed; Authorization: Bearer abc.def; access_token=xyz&b=1";
        expect(redactText(text)).to.equal("GET https://a.org/x?… failed; Authorization: Bearer …; access_token=…&b=1");
    });

    it("finds presigned addresses, whole, in part, quoted or encoded", () => {
        const signed = "X-Amz-Credential=AK%2Fus&X-Amz-Security-Token=SECRET&X-Amz-Signature=SECRET";
        for (const text of [
            `PUT https://s3.example.org/b/k?${signed}&x-id=PutObject failed`,
            `'https://s3.example.org/b/k?name=it's(one)[two]&${signed}'`,
            `(see https://s3.example.org/b/k?n=a)b&${signed})`,
            `{"url":"https://s3.example.org/b/k?${signed}"}`,
            "GET 'https://s3.example.org/b/k?name=it's(one)[two]&a-name-of-its-own=SECRET' failed",
            `cannot PUT /b/k?${signed}`,
            encodeURIComponent(`https://s3.example.org/b/k?${signed}`),
            "GET /container/blob?sv=2024&se=2026&sp=w&sig=SECRET",
            "/b/k?AWSAccessKeyId=SECRET&Expires=1&Signature=SECRET",
            "/b/k?X-Goog-Credential=a&X-Goog-Signature=SECRET",
        ]) {
            expect(redactText(text), text).not.to.contain("SECRET");
        }
    });
});
