import { expect } from "chai";
import fc from "fast-check";
import { type ErrorCode, ERRORS, MediaError } from "../../src/errors.ts";
import { presignedAddress } from "../../src/matrix/presigned-endpoints.ts";
import { PRESIGNED_TRIES, presignedFallback } from "../../src/uploads/targets/presigned-fallback.ts";

const URL_TEXT = "https://s3.example.org/b/k?X-Amz-Signature=1";
const GIVE_UP = { action: "give-up" } as const;
const RETRY = { action: "retry", delayMs: 1 } as const;

describe("what /create says of a presigned upload", () => {
    it("is read under the stable and the unstable names", () => {
        const put = { url: URL_TEXT, method: "PUT" };
        expect(presignedAddress({ upload_url: URL_TEXT })).to.deep.equal(put);
        expect(presignedAddress({ "com.beeper.msc3870.upload_url": URL_TEXT })).to.deep.equal(put);
        expect(presignedAddress({ upload_url: URL_TEXT, upload_method: "POST" })?.method).to.equal("POST");
        const unstable = { "com.beeper.msc3870.upload_url": URL_TEXT, "com.beeper.msc3870.upload_method": "POST" };
        expect(presignedAddress(unstable)?.method).to.equal("POST");
        expect(presignedAddress({ upload_url: 5, ...unstable })?.method).to.equal("POST");
    });

    it("counts as not said where it cannot be used", () => {
        for (const upload_url of [
            undefined,
            null,
            5,
            {},
            "",
            "nonsense",
            "/relative",
            "ftp://s3.example.org/x",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "https://user:password@s3.example.org/x",
            "https://user@s3.example.org/x",
            `https://s3.example.org/${"x".repeat(20_000)}`,
        ]) {
            expect(presignedAddress({ upload_url }), JSON.stringify(upload_url)).to.equal(undefined);
        }
        for (const upload_method of ["GET", "put", "DELETE", 5, null, "PUT\r\nX: y"]) {
            expect(presignedAddress({ upload_url: URL_TEXT, upload_method })?.method ?? "PUT").to.equal("PUT");
        }
        expect(presignedAddress({ upload_url: URL_TEXT, upload_method: "GET" })).to.equal(undefined);
    });

    it("never throws, and gives nothing but what it promises", () => {
        fc.assert(
            fc.property(fc.dictionary(fc.constantFrom("upload_url", "upload_method"), fc.anything()), (body) => {
                const address = presignedAddress(body);
                if (address === undefined) return;
                expect(address.url).to.match(/^\s*https?:/i);
                expect(["PUT", "POST"]).to.include(address.method);
            }),
        );
    });
});

describe("what becomes of a presigned target after a failure", () => {
    const presigned = { url: URL_TEXT, method: "PUT" } as const;
    const after = (code: ErrorCode, failures = 0, state: "transferring" | "completing" = "transferring") =>
        presignedFallback({ state, presigned: { ...presigned, failures } }, new MediaError(code), RETRY);

    it("a refusal ends it at once", () => {
        expect(after("PRESIGNED_REFUSED")).to.deep.equal({ presigned: undefined, delayMs: 0 });
        expect(after("PRESIGNED_REFUSED", 0, "completing")).to.deep.equal({ presigned: undefined, delayMs: 0 });
    });

    for (const code of ["PRESIGNED_UNAVAILABLE", "TRANSFER_TIMEOUT"] as const) {
        it(`${code} has three tries, each after a longer wait`, () => {
            const kept = after(code);
            expect(kept?.presigned).to.deep.equal({ ...presigned, failures: 1 });
            expect(kept?.delayMs).to.be.within(250, 500);
            expect(after(code, 1)?.delayMs).to.be.within(500, 1000);
            expect(after(code, PRESIGNED_TRIES - 1)).to.deep.equal({ presigned: undefined, delayMs: 0 });
        });
    }

    it("what the source or the homeserver did is the retry rules' business", () => {
        for (const code of Object.keys(ERRORS) as ErrorCode[]) {
            if (code.startsWith("PRESIGNED_") || code === "TRANSFER_TIMEOUT") continue;
            expect(after(code), code).to.equal(undefined);
            expect(after(code, 0, "completing"), code).to.equal(undefined);
        }
    });

    it("a homeserver that fails over one object again and again gets the file itself; a final refusal stands", () => {
        const completing = { state: "completing", presigned } as const;
        const failing = new MediaError("HOMESERVER_FAILING");
        expect(presignedFallback(completing, failing, GIVE_UP)).to.deep.equal({ presigned: undefined, delayMs: 0 });
        expect(presignedFallback(completing, failing, RETRY)).to.equal(undefined);
        expect(presignedFallback(completing, new MediaError("RESERVATION_GONE"), GIVE_UP)).to.equal(undefined);
    });

    it("so does one whose question is refused without a Matrix code to the last try, and not by a homeserver's own word", () => {
        const completing = { state: "completing", presigned } as const;
        for (const code of ["FORBIDDEN", "UPLOAD_REFUSED"] as const) {
            const page = new MediaError(code, { status: 403 });
            expect(presignedFallback(completing, page, GIVE_UP)).to.deep.equal({ presigned: undefined, delayMs: 0 });
            expect(presignedFallback(completing, page, RETRY)).to.equal(undefined);
            const coded = new MediaError(code, { status: 403, errcode: "M_FORBIDDEN" });
            expect(presignedFallback(completing, coded, GIVE_UP)).to.equal(undefined);
        }
    });

    it("without one there is nothing to decide", () => {
        const job = { state: "transferring", presigned: undefined } as const;
        expect(presignedFallback(job, new MediaError("TRANSFER_TIMEOUT"), RETRY)).to.equal(undefined);
    });
});
