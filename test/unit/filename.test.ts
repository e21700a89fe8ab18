import { expect } from "chai";
import { filenameOf, safeFilename } from "../../src/uploads/sources/filename.ts";

const URL_OF = "https://files.example.org/a/path.jpg?name=x";

describe("what a source calls its file", () => {
    it("by Content-Disposition, as RFC 6266 and 8187 say", () => {
        for (const [header, name] of [
            ['attachment; filename="a cat.jpg"', "a cat.jpg"],
            ["inline; filename=cat.jpg", "cat.jpg"],
            ["attachment; filename=cat.jpg; filename*=UTF-8''%e2%82%ac%20rates.pdf", "€ rates.pdf"],
            ["attachment; filename*=iso-8859-1'en'%A3%20rates.pdf", "£ rates.pdf"],
            [`attachment; filename="${Buffer.from("naïve.jpg").toString("latin1")}"`, "naïve.jpg"],
            ['attachment; filename="\\"quoted\\".jpg"', '"quoted".jpg'],
        ] as const)
            expect(filenameOf(header, URL_OF), header).to.equal(name);
    });

    it("by its path, where the header says nothing that can be read", () => {
        for (const header of [
            undefined,
            "",
            "attachment",
            "filename=x",
            "attachment; filename=a b.jpg",
            "attachment; filename*=x",
        ])
            expect(filenameOf(header, URL_OF), header).to.equal("path.jpg");
        expect(filenameOf(undefined, "https://a/na%C3%AFve%2F..%2Fcat.jpg")).to.equal("cat.jpg");
        expect(filenameOf(undefined, "https://a/100%25%")).to.equal("100%25%");
        expect(filenameOf(undefined, "https://a/b/")).to.equal(undefined);
    });

    it("without folders, control characters, and marks that turn its direction", () => {
        for (const [given, name] of [
            ["../../etc/passwd", "passwd"],
            ["C:\\Users\\me\\cat.jpg", "cat.jpg"],
            ["a\0b\r\nc.jpg", "abc.jpg"],
            ["photo\u202Egpj.exe", "photogpj.exe"],
            ["\uD800cat.jpg", "cat.jpg"],
            ["..", undefined],
            [" \u200F ", undefined],
        ] as const)
            expect(safeFilename(given), given).to.equal(name);
        expect(safeFilename("é".repeat(1000))).to.have.length(255);
    });
});
