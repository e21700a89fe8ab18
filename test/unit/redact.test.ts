import { IncomingMessage } from "node:http";
import { Socket } from "node:net";
import { inspect } from "node:util";
import { runInNewContext } from "node:vm";
import { expect } from "chai";
import { ERRORS, MediaError } from "../../src/errors.ts";
import { cutOff, secretForms } from "../support/secret-forms.ts";
import { loggable, redactText, redactUrl } from "../../src/redact.ts";

describe("redaction", () => {
    it("leaves of a URL what is no secret", () => {
        expect(redactUrl("https://user:pw@cdn.example.org:8443/a/b.jpg?X-Amz-Signature=abc#frag")).to.equal(
            "https://cdn.example.org:8443/a/b.jpg?…",
        );
        // An origin stays one: an option is named by it.
        expect(redactText("such as https://files.example.org")).to.equal("such as https://files.example.org");
        expect(redactUrl("https://a.org/?x")).to.equal("https://a.org/?…");
        expect(redactUrl("https://user:pw@a.org?x=secret")).to.equal("https://a.org/?…");
        expect(redactUrl("nonsense")).to.equal("[not a URL]");
    });

    it("leaves out of a path what looks like a secret, and nothing else", () => {
        const token = "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsawXY";
        const random = "kP3xZ-9qLmT_2vWcR8sYbN5dHfJ7gKaE4uQ6iO1pXzVt";
        expect(redactUrl(`https://api.telegram.org/file/bot${token}/photos/file_1.jpg`)).to.equal(
            "https://api.telegram.org/file/bot…/photos/file_1.jpg",
        );
        expect(redactUrl(`https://api.telegram.org/file/bot${token.replace(":", "%3A")}/a.jpg`)).to.equal(
            "https://api.telegram.org/file/bot…/a.jpg",
        );
        expect(redactUrl(`https://hooks.example.org/files/42/${random}.jpg?x`)).to.equal(
            "https://hooks.example.org/files/42/….jpg?…",
        );
        expect(redactUrl("https://a.org/files/xoxb-1-2345678-SECRET/a.jpg")).to.equal(
            "https://a.org/files/xoxb-…/a.jpg",
        );
        expect(redactText(`cannot GET /file/bot${token}/a.jpg`)).to.equal("cannot GET /file/bot…/a.jpg");
        for (const path of [
            "/robots/bot1/a.jpg",
            "/2026/05/IMG_20260501_Holiday-Photo-1.jpg",
            "/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.png",
            "/0b2f9c1e-5a77-4d7e-9a51-1d2f3c4b5a69/file.mp4",
            "/the-longest-name-that-anybody-ever-gave-to-a-picture-of-a-cat.jpg",
        ]) {
            expect(redactUrl(`https://a.org${path}`)).to.equal(`https://a.org${path}`);
        }
    });

    it("finds secrets within a text", () => {
        const text = "GET https://a.org/x?sig=1 failed; Authorization: Bearer abc.def; access_token=xyz&b=1";
        expect(redactText(text)).to.equal("GET https://a.org/x?… failed; Authorization: Bearer …; access_token=…&b=1");
    });

    it("finds secrets in JSON, and in what inspect shows", () => {
        const held = {
            access_token: "SE'CR\"ET",
            nested: { "x-api-key": "SECRET", client_secret: "SECRET", room: "!a:b" },
        };
        for (const text of [JSON.stringify(held), inspect(held), "refresh_token=SECRET&a=b"]) {
            expect(redactText(text), text).not.to.match(/SE|ET\b/);
        }
        expect(redactText(JSON.stringify(held))).to.contain('"room":"!a:b"');
        const plain = "The homeserver does not know the token: check the registration";
        expect(redactText(plain)).to.equal(plain);
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

describe("redaction of the forms that secrets have", () => {
    for (const form of [...secretForms("SEC-RET-1"), ...cutOff("SEC-RET-1")]) {
        it(form.replaceAll(/\s+/g, " "), () => expect(redactText(form)).not.to.contain("SEC-RET-1"));
    }

    it("a private key, and a field of several lines", () => {
        const pem = `-----BEGIN RSA PRIVATE KEY-----\n${"SECRET/".repeat(8)}\n${"SECRET+".repeat(8)}\n-----END RSA PRIVATE KEY-----`;
        for (const text of [`cannot read ${pem}`, inspect({ privateKey: pem }), JSON.stringify({ pem })]) {
            expect(redactText(text), text).not.to.contain("SECRET");
        }
        const enciphered = `-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nSECRET\n-----END RSA PRIVATE KEY-----`;
        expect(redactText(`cannot read ${enciphered} there`)).to.match(
            /^cannot read [^]*END RSA PRIVATE KEY----- there$/,
        );
        const armored = "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nSECRET";
        for (const text of [enciphered, armored]) expect(redactText(text)).not.to.contain("SECRET");
        const lines = ["one SECRET of several", "two SECRET of several"].join("\n").repeat(3);
        expect(redactText(inspect({ password: lines, size: 3 }))).to.equal("{\n  password: '…',\n  size: 3\n}");
    });

    it("leaves what else is there to read", () => {
        for (const [text, shown] of [
            [
                'POST failed: {"accessToken":"CANARY1"} Cookie: sid=CANARY2; X-API-Key: CANARY3 Authorization: Token CANARY4',
                'POST failed: {"accessToken":"…"} Cookie: …; X-API-Key: … Authorization: Token …',
            ],
            ['{"accessToken":"S1","id":7}', '{"accessToken":"…","id":7}'],
            ["clientSecret=S1&size=12 of cat.jpg", "clientSecret=…&size=12 of cat.jpg"],
            ["{ headers: { cookie: 'sid=S1' }, size: 12 }", "{ headers: { cookie: '…' }, size: 12 }"],
            ["Set-Cookie: a=S1; Path=/; HttpOnly was no good", "Set-Cookie: … was no good"],
            ["cannot reach redis://:S1@db.example.org:6379/0", "cannot reach redis://…@db.example.org:6379/0"],
            ["closed wss://u:S1@chat.example.org/a?x=S1 (1006)", "closed wss://chat.example.org/a?… (1006)"],
            ["https://a.org/x;jsessionid=S1/cat.jpg is gone", "https://a.org/x;jsessionid=…/cat.jpg is gone"],
            ["refused xoxb-1-23456789-S1 (HTTP 401)", "refused xoxb-… (HTTP 401)"],
            ['Authorization: Digest username="a b", nonce="S1" was refused', "Authorization: Digest … was refused"],
        ] as const) {
            expect(redactText(text)).to.equal(shown);
        }
    });

    it("leaves text alone that speaks of them", () => {
        for (const text of [
            "the key of the room",
            "token expired",
            "token: expired",
            "M_UNKNOWN_TOKEN: Access token has expired",
            "token: M_FORBIDDEN, secret: ENOENT",
            "user_token: @alice:example.org, room_secret: !room:example.org, app_token: mxc://example.org/abc",
            'Unrecognized key: "fileName"',
            "cookie jar is full",
            "cookie: jar is full",
            "authorization: none was given",
            "a monkey: 3, turkey: 2, design: x, keywords=a,b",
            "IMG_2026-05-01 (token).jpg is 1,234,567 bytes",
            "ENOENT: no such file or directory, open '/var/lib/secrets/api_key.txt'",
            "aizawa-shouta-portrait.jpg, sylt_at-the-beach-2026.jpg, eyjafjallajokull.first.jpg",
            "secret.jpg: image/jpeg, 12 KiB, 640x480",
            "mxc://example.org/kP3xZ-9qLmT_2vWcR8sYbN5dHfJ7gKaE4uQ6iO1pXzVt",
            "@token:example.org in !password:example.org, #my-secret:example.org, $signature:example.org",
            "https://a.org/keys/token/secret.jpg",
            "media[0].dedupeKey: An argument is not what the call takes",
            "session 12 ended; policy: three tries",
            "file:///home/user@host/x, see mxc://a.org/b and mail bob@example.org",
            "Error: x\n    at Token.get (file:///srv/token.js:12:5)\n    at new Secret (node:internal/secret:3:1)",
            ...Object.values(ERRORS).map(({ message }) => message),
        ]) {
            expect(redactText(text)).to.equal(text);
        }
    });
});

describe("something thrown, in a log", () => {
    const text = "GET https://cdn.example.org/x?token=SECRET failed: Bearer SECRET";

    it("is its name, message and stack, without their secrets", () => {
        const error = Object.assign(new TypeError(text), { code: "ECONNRESET", config: { headers: "SECRET" } });
        const shown = loggable(error);
        expect(shown).to.include({
            name: "TypeError",
            code: "ECONNRESET",
            message: "GET https://cdn.example.org/x?… failed: Bearer …",
        });
        expect(shown.stack).to.contain("redact.test.ts");
        expect(inspect(shown)).not.to.contain("SECRET");
    });

    it("is a MediaError's code, message and status, and the same of what lies below", () => {
        const cause = new Error(text, { cause: new Error(text, { cause: { token: "SECRET" } }) });
        const shown = loggable(new MediaError("SOURCE_REFUSED", { cause, status: 418, detail: text }));
        expect(shown).to.have.all.keys("name", "code", "message", "status", "cause");
        expect(shown).to.include({ code: "SOURCE_REFUSED", status: 418 });
        expect(shown.cause?.message).to.contain("Bearer …");
        expect(shown.cause?.cause?.cause).to.deep.equal({ kind: "object" });
        expect(inspect(shown, { depth: null })).not.to.contain("SECRET");
    });

    it("is nothing but its kind where it is no error", () => {
        const answer = Object.assign(new IncomingMessage(new Socket()), { body: "SECRET", statusCode: 502 });
        for (const [thrown, kind] of [
            [answer, "object"],
            ["SECRET", "string"],
            [null, "null"],
            [undefined, "undefined"],
        ] as const) {
            expect(loggable(thrown)).to.deep.equal({ kind });
        }
    });

    it("is an error's also where another realm's, and never itself an error", () => {
        expect(loggable(runInNewContext('new RangeError("far away")'))).to.include({ name: "RangeError" });
        const circle = new Error("round");
        circle.cause = circle;
        expect(inspect(loggable(circle), { depth: null }).split("round").length).to.be.lessThan(20);
        const hostile = Object.defineProperty(new Error("x"), "message", {
            get: () => {
                throw new Error("SECRET");
            },
        });
        expect(loggable(hostile)).to.deep.equal({ kind: "unreadable" });
        expect(
            loggable(Object.assign(new Error("x"), { code: "sk_live_SECRET", name: Symbol("x") })),
        ).not.to.have.property("code");
    });
});
