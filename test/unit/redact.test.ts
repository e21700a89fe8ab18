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
});
