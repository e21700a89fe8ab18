import { readdir, readFile } from "node:fs/promises";
import { expect } from "chai";
import { asMediaError, ERRORS, type ErrorCode, MediaError } from "../../src/errors.ts";

describe("the table of errors", () => {
    it("is listed in docs/failures.md, code by code, with the right word on retrying", async () => {
        const page = await readFile(new URL("../../docs/failures.md", import.meta.url), "utf8");
        const rows = new Map(
            [...page.matchAll(/^\| `([A-Z_]+)` \|(.*)\|$/gm)].map(([, code = "", cells = ""]) => [
                code,
                cells.split("|"),
            ]),
        );
        expect([...rows.keys()].toSorted()).to.deep.equal(Object.keys(ERRORS).toSorted());
        for (const [code, cells] of rows) {
            expect(cells.at(-1)?.trim().startsWith("yes"), code).to.equal(ERRORS[code as ErrorCode].retryable);
        }
    });

    it("has the words there that the log says", async () => {
        const page = await readFile(new URL("../../docs/failures.md", import.meta.url), "utf8");
        const logs = page
            .split("\n")
            .flatMap((line) => (/^\| `[A-Z_]+` \|/.test(line) ? [line.split("|")[4] ?? ""] : []));
        const said = new Set(
            logs.flatMap((cell) => [...cell.matchAll(/`([A-Z][^`]* [^`]*)`/g)].map(([, text = ""]) => text)),
        );
        expect(said.size).to.be.greaterThan(5);
        const root = new URL("../../src/", import.meta.url);
        const files = (await readdir(root, { recursive: true })).filter((name) => name.endsWith(".ts"));
        const source = (await Promise.all(files.map((name) => readFile(new URL(name, root), "utf8")))).join("\n");
        // One of them is put together from two parts.
        for (const text of said) for (const part of text.split(": ")) expect(source).to.contain(part);
    });

    it("is what the log gets of an error: no line has the thrown thing itself", async () => {
        const root = new URL("../../src/", import.meta.url);
        const raw: string[] = [];
        for (const name of await readdir(root, { recursive: true })) {
            // The demo, its homeserver and the recorder log nothing of an embedder's.
            if (!name.endsWith(".ts") || /^(?:dev|testing)\//.test(name)) continue;
            const source = await readFile(new URL(name, root), "utf8");
            // Shorthand, or handed on under another name.
            const calls = source.matchAll(/logger\.(?:debug|info|warn|error)\((?:[^()]|\([^()]*\))*\)/gi);
            for (const [call] of calls) {
                if (/[{,]\s*(?:error|cause|thrown)\s*[,}]|:\s*(?:error|cause|thrown)\s*[,}]/.test(call))
                    raw.push(`${name}: ${call}`);
            }
        }
        expect(raw).to.deep.equal([]);
    });

    it("gives every error its code, its cause and the field in the message", () => {
        const cause = new Error("below");
        const error = new MediaError("INVALID_ARGUMENT", { cause, field: "media[0].at", detail: "too short" });
        expect(error).to.include({ code: "INVALID_ARGUMENT", retryable: false, field: "media[0].at", cause });
        expect(error.message).to.match(/^media\[0\]\.at: .* \(too short\)$/);
        expect(new MediaError("INTERNAL", { detail: "at https://a.org/x?sig=secret" }).message).not.to.contain(
            "secret",
        );
        expect(asMediaError(error)).to.equal(error);
        expect(asMediaError(cause)).to.include({ code: "INTERNAL", cause });
    });
});
