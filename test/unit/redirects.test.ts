import type { IncomingMessage } from "node:http";
import { expect } from "chai";
import type { MediaError } from "../../src/index.ts";
import { type Hop, nextHop, redirectOf } from "../../src/uploads/sources/redirects.ts";

const from = (url: string): Hop => ({ url: new URL(url), isTrusted: true });

describe("a redirect", () => {
    const step = (hop: Hop, location: string) => {
        const { url, isTrusted } = nextHop(hop, location);
        return { to: url.href, isTrusted };
    };
    const refusal = (hop: Hop, location: string): string => {
        try {
            return nextHop(hop, location).url.href;
        } catch (error) {
            return (error as MediaError).code;
        }
    };

    it("within its origin keeps headers and password, however the address is written", () => {
        const hop = from("https://user:secret@a.example/dir/file");
        for (const [location, to] of [
            ["other", "https://user:secret@a.example/dir/other"],
            ["/top?q=1", "https://user:secret@a.example/top?q=1"],
            ["//a.example/x", "https://user:secret@a.example/x"],
            ["https://a.example:443/x", "https://user:secret@a.example/x"],
            ["https://evil:other@a.example/x", "https://user:secret@a.example/x"],
            [Buffer.from("/bücher").toString("latin1"), "https://user:secret@a.example/b%C3%BCcher"],
        ] as const)
            expect(step(hop, location)).to.deep.equal({ to, isTrusted: true });
    });

    it("to another origin takes nothing along, and what comes after it is not trusted again", () => {
        const hop = from("http://user:secret@a.example/file");
        for (const location of [
            "http://b.example/",
            "http://sub.a.example/",
            "http://a.example:8080/",
            "https://a.example/",
            "http://its:own@b.example/",
        ]) {
            const away = nextHop(hop, location);
            expect(away.isTrusted, location).to.equal(false);
            expect(away.url.username + away.url.password, location).to.equal("");
        }
        const back = nextHop(nextHop(hop, "http://b.example/"), "http://user:secret@a.example/file");
        expect(back.isTrusted).to.equal(false);
        expect(back.url.href).to.equal("http://a.example/file");
        expect(nextHop(nextHop(hop, "http://b.example/"), "/further").isTrusted).to.equal(false);
    });

    it("is what names another address, whatever else is answered with a Location", () => {
        const of = (statusCode: number, location?: string) =>
            redirectOf({ statusCode, headers: { location } } as IncomingMessage);
        for (const status of [300, 301, 302, 303, 307, 308]) expect(of(status, "/x"), `${status}`).to.equal("/x");
        for (const status of [200, 201, 304, 404]) expect(of(status, "/x"), `${status}`).to.equal(undefined);
        expect([of(302), of(302, "")]).to.deep.equal([undefined, undefined]);
    });

    it("from https to http, to another scheme, or to nowhere is refused", () => {
        expect(refusal(from("https://a.example/"), "http://a.example/")).to.equal("SOURCE_REFUSED");
        expect(refusal(nextHop(from("http://a.example/"), "https://b.example/"), "http://b.example/")).to.equal(
            "SOURCE_REFUSED",
        );
        for (const location of ["file:///etc/passwd", "data:,x", "ftp://a.example/", "http://", "http://[::1"])
            expect(refusal(from("http://a.example/"), location), location).to.equal("SOURCE_REFUSED");
    });
});
