import { expect } from "chai";
import fc from "fast-check";
import { loggable, redactText, redactUrl } from "../../src/redact.ts";
import { cutOff, secretForms } from "../support/secret-forms.ts";

describe("redaction of whatever others write", () => {
    const SECRET = "Zx81-secret-Zx82";

    it("finds each secret whatever stands beside it", () => {
        const forms = secretForms(SECRET);
        fc.assert(
            fc.property(
                fc.shuffledSubarray(forms, { minLength: 1, maxLength: 6 }),
                fc.constantFrom(" ", ", ", "; ", "\n", " failed: ", " and then ", " | "),
                fc.constantFrom("", ...cutOff(SECRET)),
                (some, separator, last) => {
                    expect(redactText([...some, last].join(separator))).not.to.contain(SECRET);
                },
            ),
            { numRuns: 2000 },
        );
    });

    it("shows what it has made safe as it is", () => {
        const forms = secretForms(SECRET);
        fc.assert(
            fc.property(fc.shuffledSubarray(forms, { maxLength: 4 }), (some) => {
                const once = redactText(some.join(" "));
                expect(redactText(once)).to.equal(once);
            }),
        );
    });

    it("takes time as the text is long, whatever is in it", function () {
        this.timeout(120_000);
        const pieces = [
            ...'a A 0 - _ . : ; , = & % @ / ? # " \' ` \\ \\" < > { } [ ] ( )'.split(" "),
            ..."token password key cookie set-cookie authorization x- x-api-key sid session sig Digest Token".split(
                " ",
            ),
            ..."Bearer Basic https:// wss:// redis:// mxc:// eyJ xoxb- syt_ ghp_ bot1 %3D %22 => -----BEGIN".split(" "),
            " ",
            "\t",
            "\n",
            "\0",
            '":"',
            "':'",
            ': "',
            ": [",
            ": {",
            "a=b",
            '="',
            "a=b; ",
            "expires=Wed, 1 ",
        ];
        const LENGTH = 100_000;
        fc.assert(
            fc.property(
                fc.array(fc.constantFrom(...pieces), { minLength: 1, maxLength: 4 }),
                fc.array(fc.constantFrom(...pieces), { maxLength: 3 }),
                (repeated, before) => {
                    const unit = repeated.join("");
                    const text = before.join("") + unit.repeat(LENGTH / unit.length);
                    const began = process.cpuUsage();
                    redactText(text);
                    redactUrl(`https://a.org/${text}`);
                    const { user, system } = process.cpuUsage(began);
                    // Steps by the square of its length would be 10^10.
                    expect((user + system) / 1000, JSON.stringify({ before, repeated })).to.be.lessThan(1000);
                },
            ),
            { numRuns: 300 },
        );
    });

    it("shows the beginning of a text of many megabytes", () => {
        for (const start of ['token="', 'token: "', "Cookie: a=", 'token\\":\\"', "https://a.org/", "X-Api-Key: "]) {
            const shown = loggable(new Error(start + "SECRET".repeat(2 ** 22)));
            expect(shown, start).to.have.property("message").with.lengthOf.below(66_000);
        }
    });
});
