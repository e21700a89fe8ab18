import { readdir, readFile } from "node:fs/promises";
import { expect } from "chai";
import { checkAnnouncedType, checkFirstBytes, HEAD_BYTES } from "../../src/uploads/content-check.ts";

const SAMPLES = new URL("../../src/dev/sample-media/", import.meta.url);
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");
const box = (brand: string): Buffer =>
    Buffer.concat([hex("00000018"), Buffer.from(`ftyp${brand}\0\0\0\0${brand}mp42`)]);
const bytesOf: Readonly<Record<string, Buffer>> = {
    jpeg: hex("FFD8FFE0 00104A46 49460001 01010048"),
    png: hex("89504E47 0D0A1A0A 0000000D 49484452 00000001 00000001 08060000 001F15C4 89"),
    gif: Buffer.from("GIF89a\x01\0\x01\0"),
    webp: Buffer.from("RIFF\x24\0\0\0WEBPVP8 \x18\0\0\0"),
    heic: box("heic"),
    avif: box("avif"),
    mp4: box("isom"),
    m4a: box("M4A "),
    quicktime: box("qt  "),
    webm: Buffer.concat([hex("1A45DFA3 9F 4286 81 01 42F7 81 01 42F2 81 04 42F3 81 08 4282 84"), Buffer.from("webm")]),
    ogg: Buffer.concat([Buffer.from("OggS\0\x02"), Buffer.alloc(22), Buffer.from("OpusHead")]),
    wav: Buffer.from("RIFF\x24\0\0\0WAVEfmt "),
    flac: Buffer.from("fLaC\0\0\0\x22"),
    amr: Buffer.from("#!AMR\n"),
    zip: Buffer.concat([hex("504B0304 14000000 0800"), Buffer.alloc(60)]),
    pdf: Buffer.from("%PDF-1.7\n"),
    gzip: hex("1F8B0800 00000000 0003"),
    html: Buffer.from("\uFEFF\n <!DOCTYPE HTML><title>Sorry</title>"),
    "html without a doctype": Buffer.from("<html><body>Sorry"),
    "html in UTF-16": Buffer.from("\uFEFF<html>Sorry</html>", "utf16le"),
    "an XML error": Buffer.from("<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"),
    "an XML error without a prologue": Buffer.from("<Error><Code>AccessDenied</Code></Error>"),
    "a JSON error": Buffer.from(' {"error":"not_authed"}'),
    "an empty JSON object": Buffer.from("{}"),
    "a JSON list": Buffer.from('[{"error":1}]'),
    svg: Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'),
    "svg with all that may stand before": Buffer.from(
        '<?xml version="1.0"?><!-- <html> --><!DOCTYPE svg PUBLIC "x" "y" [<!ENTITY a "<b>">]><svg:svg/>',
    ),
    "a sentence": Buffer.from("This link has expired.\r\n"),
    "a sentence in another script": Buffer.from("\uFEFF\tСсылка устарела 🙁"),
    "a sentence that begins as a bitmap would": Buffer.from("BM is gone"),
    "a long text whose last letter is cut": Buffer.from(`a${"ж".repeat(HEAD_BYTES)}`).subarray(0, HEAD_BYTES),
    "text that ends in half a letter": Buffer.from("ж").subarray(0, 1),
    "a byte that no text has": Buffer.from("This link has expired.\0"),
    "nothing known": hex("00010203 04050607 08090A0B"),
    nothing: Buffer.alloc(0),
};
const PAGES = Object.keys(bytesOf).filter((name) => /html|XML|JSON/.test(name));
const FILMS = ["mp4", "webm", "ogg", "quicktime"];
const SOUNDS = ["m4a", "wav", "flac", "amr"];
const TEXTS = Object.keys(bytesOf).filter((name) => /^a (?:sentence|long text)/.test(name));
const UNKNOWN = ["nothing known", "text that ends in half a letter", "a byte that no text has"];
const IMAGES = ["jpeg", "png", "gif", "webp", "heic", "avif", ...UNKNOWN];

const ACCEPTED: Readonly<Record<string, readonly string[]>> = {
    "image/jpeg": IMAGES,
    "IMAGE/PNG": IMAGES,
    "image/heic": IMAGES,
    "video/mp4": [...FILMS, ...SOUNDS, ...UNKNOWN],
    "video/webm; codecs=vp9": [...FILMS, ...SOUNDS, ...UNKNOWN],
    "audio/ogg": [...FILMS, ...SOUNDS, ...UNKNOWN],
    "audio/mp4": [...FILMS, ...SOUNDS, ...UNKNOWN],
    // By a message's kind alone.
    "image/*": [...IMAGES, "svg", "svg with all that may stand before"],
    "video/*": [...FILMS, ...SOUNDS, ...UNKNOWN],
    "audio/*": [...FILMS, ...SOUNDS, ...UNKNOWN],
};

const accepts = (head: Uint8Array, promised: string | undefined): Promise<boolean> =>
    checkFirstBytes(head, promised).then(
        () => true,
        (error: { code: string }) => {
            // Of nothing at all it is not said what it is: the next try may bring the file.
            expect(error.code).to.equal(head.length === 0 ? "SOURCE_LENGTH_MISMATCH" : "SOURCE_TYPE_MISMATCH");
            return false;
        },
    );

describe("what a file's first bytes may be", () => {
    for (const [promised, accepted] of Object.entries(ACCEPTED)) {
        it(`where ${promised} was promised`, async () => {
            for (const [name, bytes] of Object.entries(bytesOf))
                expect(await accepts(bytes, promised), name).to.equal(accepted.includes(name));
        });
    }

    it("where SVG was promised: SVG, and no page", async () => {
        for (const name of [...PAGES, ...TEXTS, "nothing"])
            expect(await accepts(bytesOf[name] ?? Buffer.alloc(0), "image/svg+xml"), name).to.equal(false);
        for (const name of ["svg", "svg with all that may stand before", "gzip", ...UNKNOWN])
            expect(await accepts(bytesOf[name] ?? Buffer.alloc(0), "image/svg+xml"), name).to.equal(true);
    });

    it("where text was promised: text, and no page", async () => {
        for (const type of [
            "image/x-xpixmap",
            "image/x-portable-bitmap",
            "image/vnd.dxf",
            "image/x-eps",
            "Audio/X-MPEGURL; charset=utf-8",
            "video/vnd.mpegurl",
            "audio/x-scpls",
            "image/x-dxf",
            "image/dxf",
            "image/x-pnm",
            "image/xpm",
            "audio/x-m3u",
            "audio/vnd.abc",
            "video/x-ms-asf",
        ]) {
            for (const name of TEXTS)
                expect(await accepts(bytesOf[name] ?? Buffer.alloc(0), type), `${name} as ${type}`).to.equal(true);
            for (const name of ["html", "a JSON error", "nothing"])
                expect(await accepts(bytesOf[name] ?? Buffer.alloc(0), type), `${name} as ${type}`).to.equal(false);
        }
    });

    it("where a Lottie sticker was promised: JSON, and no page", async () => {
        const lottie = Buffer.from('{"v":"5.5.2","fr":60}');
        for (const type of ["video/lottie+json", "image/lottie+json; charset=utf-8"]) {
            expect(await accepts(lottie, type), type).to.equal(true);
            for (const name of ["html", "html without a doctype", "an XML error", "nothing"])
                expect(await accepts(bytesOf[name] ?? Buffer.alloc(0), type), `${name} as ${type}`).to.equal(false);
        }
        expect(await accepts(lottie, "video/mp4")).to.equal(false);
    });

    it("anything where no media was promised", async () => {
        for (const promised of [undefined, "text/html", "application/json", "application/octet-stream"])
            for (const [name, bytes] of Object.entries(bytesOf))
                expect(await accepts(bytes, promised), name).to.equal(true);
    });

    it("real files, of their own type and of their family", async () => {
        const types = {
            gif: "image/png",
            jpg: "image/jpeg",
            mp4: "video/mp4",
            ogg: "audio/ogg",
            png: "image/png",
            webp: "image/webp",
        };
        for (const file of await readdir(SAMPLES)) {
            const type = Object.entries(types).find(([extension]) => file.endsWith(`.${extension}`))?.[1];
            if (type === undefined) continue;
            const head = (await readFile(new URL(file, SAMPLES))).subarray(0, HEAD_BYTES);
            expect(await accepts(head, type), file).to.equal(true);
            const other = type.startsWith("image/") ? "video/mp4" : "image/jpeg";
            expect(await accepts(head, other), `${file} as ${other}`).to.equal(false);
        }
    });

    it("two bytes prove nothing: a file that happens to begin so is let through", async () => {
        for (const begin of [
            "FFFB9000",
            "FFF15080",
            "4D5A9000",
            "78010000",
            "0B770000",
            "60EA0000",
            "C7710000",
            "1F9D9000",
        ])
            expect(await accepts(Buffer.concat([hex(begin), Buffer.alloc(40, 7)]), "image/jpeg"), begin).to.equal(true);
        // A transport stream's two are a packet apart.
        for (const first of [0, 4]) {
            const head = Buffer.alloc(600, 7);
            for (const at of [first, first + 188]) head[at] = 0x47;
            expect(await accepts(head, "image/jpeg"), `sync bytes from ${first}`).to.equal(true);
        }
    });

    it("by its announced type a page is a page before a byte is read", () => {
        const refuse = (promised: string, announced: string): void => {
            expect(() => checkAnnouncedType(promised, announced), announced).to.throw();
        };
        for (const type of ["text/html", "TEXT/HTML; charset=utf-8", "application/json", "text/xml", "application/xml"])
            refuse("image/png", type);
        refuse("image/svg+xml", "text/html");
        refuse("image/*", "text/html");
        refuse("video/lottie+json", "text/html");
        refuse("audio/x-m3u", "text/html");
        refuse("image/*", "application/json");
        refuse("video/*", "text/xml");
        for (const [promised, announced] of [
            ["image/png", "application/octet-stream"],
            ["image/png", "text/plain"],
            ["image/svg+xml", "application/xml"],
            ["video/lottie+json", "application/json"],
            ["application/pdf", "text/html"],
        ] as const)
            checkAnnouncedType(promised, announced);
    });
});
