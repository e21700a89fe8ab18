import { createReadStream } from "node:fs";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { type ContractCase, type Connector, connectorContract, sourceContract } from "../../src/testing/index.ts";
import { addressPolicy } from "../../src/uploads/sources/address-guard.ts";
import { ConnectorSource } from "../../src/uploads/sources/connector.ts";
import { FileSource } from "../../src/uploads/sources/file.ts";
import { HttpSource } from "../../src/uploads/sources/http.ts";
import { Spool } from "../../src/uploads/sources/spool.ts";
import { type Remote, someBytes, startRemote } from "../support/remote.ts";

const LIMITS = { connectMs: 10_000, headersMs: 10_000, idleMs: 10_000, totalMs: 60_000 };

/** The least a connector can be: its references are paths. */
const files: Connector = {
    async open(ref, { offset, signal }) {
        const { size } = await stat(String(ref));
        return { stream: createReadStream(String(ref), { start: offset, signal }), size: size - offset };
    },
    refresh: async (ref) => ref,
};

describe("the sources' contract", () => {
    const bytes = someBytes(3 * 2 ** 20 + 17);
    const http = new HttpSource(addressPolicy(true), LIMITS);
    let directory: string;
    let path: string;
    let remote: Remote;
    let spool: Spool;

    before(async () => {
        directory = await mkdtemp(join(tmpdir(), "sources-"));
        path = join(directory, "file.bin");
        await writeFile(path, bytes);
        spool = new Spool(join(directory, "spool"), 2 ** 30);
        await spool.start(async () => false);
        await spool.write("spooled", Readable.from([bytes]));
        remote = await startRemote();
    });
    after(async () => {
        http.close();
        await remote.close();
        await rm(directory, { recursive: true, force: true });
    });

    suite("FileSource", () => {
        const source = new FileSource();
        return sourceContract({
            bytes,
            open: (signal) => source.open({ kind: "file", path }, signal),
            openMissing: (signal) => source.open({ kind: "file", path: `${path}.not` }, signal),
        });
    });

    suite("Spool", () =>
        sourceContract({
            bytes,
            open: (signal) => spool.open({ kind: "spool", name: "spooled" }, signal),
            openMissing: (signal) => spool.open({ kind: "spool", name: "missing" }, signal),
        }));

    suite("HttpSource, of a server that can resume", () => overHttp({ etag: '"1"' }));
    suite("HttpSource, of a server that cannot", () => overHttp({}));

    suite("ConnectorSource", () => {
        const source = new ConnectorSource({ files }, LIMITS);
        return sourceContract({
            bytes,
            open: (signal) => source.open({ kind: "connector", connector: "files", ref: path }, signal),
            openMissing: (signal) => source.open({ kind: "connector", connector: "files", ref: "/not" }, signal),
        });
    });

    suite("a connector", () =>
        connectorContract({ bytes, connector: () => files, ref: () => path, missingRef: () => `${path}.not` }));

    function overHttp(headers: Record<string, string>): ContractCase[] {
        const address = (): string =>
            remote.on(`/${Object.keys(headers).join("-")}`, (_request, response) => {
                response.writeHead(200, { ...headers, "content-length": bytes.length }).end(bytes);
            });
        return sourceContract({
            bytes,
            open: (signal) => http.open({ kind: "http", url: address() }, signal),
            openMissing: (signal) => http.open({ kind: "http", url: `${remote.url}/missing` }, signal),
        });
    }
});

function suite(name: string, cases: () => ContractCase[]): void {
    describe(name, () => {
        for (const { name, run } of cases()) it(name, run);
    });
}
