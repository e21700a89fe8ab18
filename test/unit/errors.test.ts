import { readdir, readFile } from "node:fs/promises";
import { expect } from "chai";
import { asMediaError, ERRORS, type ErrorCode, MediaError, roomText } from "../../src/errors.ts";
import { isPatience } from "../../src/uploads/retry.ts";

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

    it("has words for the room for each code that can end a job, which the page lists, without advice to operators", async () => {
        const page = await readFile(new URL("../../docs/failures.md", import.meta.url), "utf8");
        const rooms = new Map(
            [...page.matchAll(/^\| `([A-Z_]+)` \|[^|]*\|([^|]*)\|/gm)].map(([, code = "", room = ""]) => [code, room]),
        );
        const without: string[] = [];
        for (const [code, entry] of Object.entries(ERRORS)) {
            const shown = rooms.get(code) ?? "";
            if (!("room" in entry)) {
                without.push(code);
                expect(shown, code).not.to.contain("the notice");
                continue;
            }
            expect(shown, code).to.contain(`the notice (*${entry.room}*)`);
            // A sentence that goes on from "could not be bridged:", without names of options, codes and parts.
            expect(entry.room, code).to.match(/^[a-z][a-z' ]+$/);
            expect(entry.room, code).not.to.match(
                /check|config|option|list |registration|token|credential|membership|power level|upgrade|again|journal|spool|connector/,
            );
        }
        // Patience is never out; the others reject calls, or say something of events and storages.
        expect(without.filter((code) => !isPatience(code as ErrorCode))).to.deep.equal([
            "INVALID_ARGUMENT",
            "INVALID_OPTION",
            "JOB_UNKNOWN",
            "MESSAGE_UNKNOWN",
            "JOB_NOT_RETRYABLE",
            "NOT_STARTED",
            "CLOSED",
            "BACKLOG_FULL",
            "STORE_LOCKED",
            "STORE_NEWER_SCHEMA",
            "STORE_UNUSABLE",
            "EVENT_TOO_LARGE",
            "EVENT_REFUSED",
            "PRESIGNED_REFUSED",
            "PRESIGNED_UNAVAILABLE",
            "ENCRYPTION_FAILED",
            "ENCRYPTION_UNAVAILABLE",
            "ENCRYPTION_KEYS_GONE",
        ]);
        for (const code of without) expect(roomText(code as ErrorCode)).to.equal(ERRORS.INTERNAL.room);
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
