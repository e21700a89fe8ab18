import { execFile } from "node:child_process";
import dns from "node:dns";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer as createPlainServer } from "node:http";
import { createServer, Agent as HttpsAgent } from "node:https";
import { syncBuiltinESMExports } from "node:module";
import { type AddressInfo, createServer as createSocketServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect } from "chai";
import type { ErrorCode } from "../../src/errors.ts";
import { addressPolicy } from "../../src/uploads/sources/address-guard.ts";
import { HttpSource } from "../../src/uploads/sources/http.ts";
import type { SourceDescription } from "../../src/uploads/sources/source.ts";
import { type Remote, someBytes, startRemote } from "../support/remote.ts";

const LIMITS = { connectMs: 5000, headersMs: 5000, idleMs: 5000, totalMs: 20_000 };
const SECRETS = { authorization: "Bearer secret", cookie: "a=secret", "x-api-key": "secret" };

describe("where a source's address may lead", () => {
    let remote: Remote;
    let port: string;
    const sources: HttpSource[] = [];
    beforeEach(async () => {
        remote = await startRemote();
        ({ port } = new URL(remote.url));
    });
    afterEach(async () => {
        for (const source of sources.splice(0)) source.close();
        await remote.close();
    });

    /** Opens the address and reads it to its end. */
    async function fetched(
        allow: boolean | readonly string[],
        url: string,
        headers?: Readonly<Record<string, string>>,
    ): Promise<ErrorCode | "read"> {
        const source = new HttpSource(addressPolicy(allow), LIMITS);
        sources.push(source);
        const description: SourceDescription = { kind: "http", url, ...(headers !== undefined && { headers }) };
        try {
            const { stream } = await source.open(description, new AbortController().signal);
            for await (const _ of stream);
            return "read";
        } catch (error) {
            return (error as { code: ErrorCode }).code;
        }
    }

    it("no spelling of a private address is connected to", async () => {
        const spellings = [
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "0177.1",
            "127.0.0.1.",
            "0",
            "0.0.0.0",
            "00000177.0x0.0.1",
            "%31%32%37.0.0.1",
            "１２７.0.0.1",
            "127。0。0。1",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "sub.localhost",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::7f00:1]",
            "[2002:7f00:1::]",
            "[2001:0:53aa::1]",
            "[fe80::1]",
            "169.254.169.254",
            "[fd00:ec2::254]",
            "0xa9fea9fe",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
        ];
        for (const host of spellings) {
            const code = await fetched(false, `http://${host}:${port}/`);
            // A resolver may not know these names at all.
            const refusals = host === "localhost." || host === "sub.localhost" ? ["SOURCE_UNAVAILABLE"] : [];
            expect(code, host).to.be.oneOf(["SOURCE_ADDRESS_REFUSED", ...refusals]);
        }
        expect(remote.requests).to.have.length(0);
    });

    it("a redirect is checked as the first address is: literal, spelled, or by name", async () => {
        for (const host of ["127.0.0.2", "0x7f.2", "[::1]", "[::ffff:127.0.0.2]", "169.254.169.254", "localhost"]) {
            const away = remote.on("/away", (_request, response) => {
                response.writeHead(302, { location: `http://${host}:${port}/secret` }).end();
            });
            const lookups = host === "localhost" ? overrideLookup([["127.0.0.3"]]) : undefined;
            try {
                expect(await fetched(["127.0.0.1"], away), host).to.equal("SOURCE_ADDRESS_REFUSED");
            } finally {
                lookups?.restore();
            }
        }
        expect(remote.requests.filter(({ url }) => url === "/secret")).to.have.length(0);
    });

    it("a name that answers differently the second time: what was checked is what is connected to", async () => {
        const again = remote.on("/again", (_request, response) => {
            response.writeHead(302, { location: `http://rebind.example:${port}/secret`, connection: "close" }).end();
        });
        const lookups = overrideLookup([["127.0.0.1"], ["127.0.0.2"]]);
        try {
            const url = again.replace("127.0.0.1", "rebind.example");
            expect(await fetched(["127.0.0.1"], url)).to.equal("SOURCE_ADDRESS_REFUSED");
            // One lookup a connection, the very one that was checked.
            expect(lookups.asked).to.deep.equal(["rebind.example", "rebind.example"]);
            expect(remote.requests.map((request) => request.url)).to.deep.equal(["/again"]);
        } finally {
            lookups.restore();
        }
    });

    it("of several addresses of a name only the allowed ones are tried", async () => {
        const file = new URL(remote.file(someBytes(100)));
        const lookups = overrideLookup([["127.0.0.2", "::1", "127.0.0.1"], ["10.0.0.1"]]);
        try {
            expect(await fetched(["127.0.0.1"], `http://mixed.example:${port}${file.pathname}`)).to.equal("read");
            expect(remote.requests[0]?.socket.localAddress).to.equal("127.0.0.1");
            expect(await fetched(["127.0.0.1"], `http://mixed.example:${port}/`)).to.equal("SOURCE_ADDRESS_REFUSED");
        } finally {
            lookups.restore();
        }
    });

    it("headers given for a source, and the user and password in its URL, stay with its origin", async () => {
        const other = await startRemote();
        const back = remote.on("/back", (_request, response) => {
            response.writeHead(200, { "content-length": 2 }).end(someBytes(2));
        });
        const hop = other.on("/hop", (_request, response) => response.writeHead(307, { location: back }).end());
        remote.on("/away", (_request, response) => response.writeHead(302, { location: hop }).end());
        const near = remote.on("/near", (_request, response) => response.writeHead(302, { location: "/away" }).end());

        expect(await fetched(true, near, SECRETS)).to.equal("read");
        expect(remote.requests.slice(0, 2).map(({ headers }) => headers)).to.satisfy((all: object[]) =>
            all.every((headers) =>
                Object.entries(SECRETS).every(([name, value]) => Reflect.get(headers, name) === value),
            ),
        );
        expect(JSON.stringify(other.requests[0]?.headers)).not.to.contain("secret");
        // Back at the first origin they are gone for good.
        expect(JSON.stringify(remote.requests[2]?.headers)).not.to.contain("secret");

        remote.requests.length = 0;
        other.requests.length = 0;
        expect(await fetched(true, near.replace("//", "//user:secret@"))).to.equal("read");
        const basic = `Basic ${Buffer.from("user:secret").toString("base64")}`;
        expect(remote.requests.map(({ headers }) => headers.authorization)).to.deep.equal([basic, basic, undefined]);
        expect(other.requests[0]?.headers).not.to.have.property("authorization");
        await other.close();
    });

    it("never from https to http, and nothing kept from http to https, not even at the same host", async () => {
        const secure = await startSecure();
        try {
            const plain = remote.file(someBytes(10));
            secure.location = plain;
            expect(await fetched(true, secure.url, SECRETS)).to.equal("SOURCE_REFUSED");
            const chain = remote.on("/chain", (_request, response) =>
                response.writeHead(302, { location: secure.url }).end(),
            );
            expect(await fetched(true, chain)).to.equal("SOURCE_REFUSED");
            expect(remote.requests.map(({ url }) => url)).to.deep.equal(["/chain"]);

            secure.location = undefined;
            secure.headers.length = 0;
            // The very same host and port: only the scheme is another.
            const plainly = secure.url.replace("https://", "http://user:secret@");
            expect(await fetched(true, plainly, SECRETS)).to.equal("read");
            expect(JSON.stringify(secure.headers)).not.to.contain("secret");
            expect(JSON.stringify(secure.headers)).not.to.contain(Buffer.from("user:secret").toString("base64"));
        } finally {
            await secure.close();
        }
    });

    it("only http and https", async () => {
        for (const location of [
            "file:///etc/passwd",
            "ftp://127.0.0.1/",
            "data:image/png;base64,AAAA",
            "//[nonsense",
        ]) {
            const away = remote.on("/away", (_request, response) => response.writeHead(302, { location }).end());
            expect(await fetched(true, away), location).to.equal("SOURCE_REFUSED");
        }
    });
});

/** Node's own resolver, answering each lookup with the next of these addresses; the last one stays. */
function overrideLookup(answers: readonly (readonly string[])[]) {
    const { lookup } = dns;
    const asked: string[] = [];
    const override = (hostname: string, _options: unknown, callback: (error: null, found: object[]) => void): void => {
        const addresses = answers[Math.min(asked.length, answers.length - 1)] ?? [];
        asked.push(hostname);
        const found = addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
        process.nextTick(callback, null, found);
    };
    dns.lookup = override as typeof dns.lookup;
    syncBuiltinESMExports();
    return {
        asked,
        restore: (): void => {
            dns.lookup = lookup;
            syncBuiltinESMExports();
        },
    };
}

/** A server with a certificate of its own making, which this process believes as long as it runs. */
async function startSecure() {
    const folder = await mkdtemp(join(tmpdir(), "tls-"));
    const [key, certificate] = [join(folder, "key.pem"), join(folder, "certificate.pem")];
    const subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
    const what = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    await promisify(execFile)("openssl", [...what, ...subject, "-keyout", key, "-out", certificate]);
    const secure = { url: "", location: undefined as string | undefined, headers: [] as unknown[], close };
    const server = createServer(
        { key: await readFile(key), cert: await readFile(certificate) },
        (request, response) => {
            secure.headers.push(request.headers);
            if (secure.location !== undefined) response.writeHead(302, { location: secure.location }).end();
            else response.writeHead(200, { "content-length": 2 }).end(someBytes(2));
        },
    );
    const plain = createPlainServer((_request, response) => response.writeHead(302, { location: secure.url }).end());
    // One port for both: TLS begins with the byte 22.
    const either = createSocketServer((socket) => {
        socket.on("error", () => {});
        socket.once("data", (first: Buffer) => {
            socket.pause();
            (first[0] === 22 ? server : plain).emit("connection", socket);
            socket.unshift(first);
            socket.resume();
        });
    });
    await new Promise<void>((resolve) => either.listen(0, "127.0.0.1", resolve));
    secure.url = `https://127.0.0.1:${(either.address() as AddressInfo).port}/`;
    const ca = await readFile(certificate);
    const agents = HttpsAgent.prototype as unknown as { createConnection: (options: object, told: unknown) => unknown };
    const { createConnection } = agents;
    agents.createConnection = function (options, told) {
        return createConnection.call(this, { ...options, ca }, told);
    };
    async function close(): Promise<void> {
        agents.createConnection = createConnection;
        server.closeAllConnections();
        plain.closeAllConnections();
        await new Promise((resolve) => either.close(resolve));
        await rm(folder, { recursive: true, force: true });
    }
    return secure;
}
