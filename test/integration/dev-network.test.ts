import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { startFileServer, type FileServer } from "../../src/dev/network/file-server.ts";
import { folderConversation } from "../../src/dev/network/folder.ts";
import { diskFile, generatedFile, type RemoteFile, sha256Of } from "../../src/dev/network/remote-file.ts";
import { type Attachment, delivered, type RemoteMessage } from "../../src/dev/network/remote-message.ts";
import { startSampleNetwork } from "../../src/dev/network/sample-network.ts";

const SIZE = 1_000_003;

async function bytes(url: string, headers: Record<string, string> = {}): Promise<Buffer> {
    return Buffer.from(await (await fetch(url, { headers })).arrayBuffer());
}

async function originalBytes(file: RemoteFile, start = 0, end = file.size): Promise<Buffer> {
    const chunks: Buffer[] = [];
    for await (const chunk of file.read({ start, end })) chunks.push(chunk);
    return Buffer.concat(chunks);
}

const OPTIONS = { port: 0, videoBytes: 300_000, videoBytesPerSecond: 10_000_000, pauseMs: 5 };

async function videoIds(videoBytes: number): Promise<string[]> {
    const network = await startSampleNetwork({ ...OPTIONS, videoBytes });
    await network.close();
    const messages = network.conversations.flatMap((conversation) => conversation.messages);
    return messages.filter(({ file }) => file?.thumbnail !== undefined).map(({ id }) => id);
}

async function expectOriginal({ location, original, name }: Attachment): Promise<void> {
    if (location.kind !== "http") throw new Error(`${name} is not on the server`);
    const served = await bytes(location.url, { ...location.headers });
    expect(served.equals(await originalBytes(original)), name).to.equal(true);
}

describe("the sample network's file server", () => {
    let folder: string;
    let server: FileServer;
    let video: string;

    before(async () => {
        folder = await mkdtemp(join(tmpdir(), "sample-network-"));
        await writeFile(join(folder, "secret.txt"), "for members");
        await writeFile(join(folder, "empty.bin"), "");
        const catalogue = new Map([
            ["secret.txt", await diskFile(join(folder, "secret.txt"), { token: "open sesame" })],
            ["empty.bin", await diskFile(join(folder, "empty.bin"))],
        ]);
        server = await startFileServer({ port: 0, catalogue });
        video = `${server.url}/generated/video-1.mp4?size=${SIZE}`;
    });

    after(async () => {
        await server.close();
        await rm(folder, { recursive: true });
    });

    it("makes the same bytes for the same name, and others for another", async () => {
        const first = await bytes(video);
        expect(first).to.have.length(SIZE);
        expect(first.equals(await originalBytes(generatedFile("video-1.mp4", SIZE)))).to.equal(true);
        expect(first.equals(await bytes(`${server.url}/generated/video-2.mp4?size=${SIZE}`))).to.equal(false);
    });

    it("keeps its bytes from release to release", async () => {
        expect(await sha256Of(generatedFile("video-1.mp4", SIZE))).to.equal(
            "4fb317759d351dc807449d073379d23f6a8eeff1a38dc8eb06be4d08eb3defb6",
        );
    });

    it("announces length, kind, validator and that it serves ranges", async () => {
        const response = await fetch(video);
        await response.body?.cancel();
        expect(response.status).to.equal(200);
        expect(response.headers.get("content-length")).to.equal(String(SIZE));
        expect(response.headers.get("content-type")).to.equal("video/mp4");
        expect(response.headers.get("accept-ranges")).to.equal("bytes");
        expect(response.headers.get("etag")).to.match(/^"[^"]+"$/);
    });

    const ranges: readonly (readonly [string, number, number])[] = [
        ["bytes=0-0", 0, 1],
        ["bytes=7-70000", 7, 70_001],
        ["bytes=500001-", 500_001, SIZE],
        ["bytes=-17", SIZE - 17, SIZE],
        ["bytes=999999-99999999", 999_999, SIZE],
    ];
    for (const [range, start, end] of ranges) {
        it(`answers Range: ${range} with exactly that part`, async () => {
            const response = await fetch(video, { headers: { range } });
            expect(response.status).to.equal(206);
            expect(response.headers.get("content-range")).to.equal(`bytes ${start}-${end - 1}/${SIZE}`);
            const part = Buffer.from(await response.arrayBuffer());
            expect(part.equals(await originalBytes(generatedFile("video-1.mp4", SIZE), start, end))).to.equal(true);
        });
    }

    it("serves a range only while If-Range names the file as it is", async () => {
        const etag = (await fetch(video, { headers: { range: "bytes=0-0" } })).headers.get("etag") ?? "";
        const same = await fetch(video, { headers: { range: "bytes=10-19", "if-range": etag } });
        expect(same.status).to.equal(206);
        expect(await same.arrayBuffer()).to.have.property("byteLength", 10);
        const other = await fetch(video, { headers: { range: "bytes=10-19", "if-range": '"another"' } });
        expect(other.status).to.equal(200);
        expect(await other.arrayBuffer()).to.have.property("byteLength", SIZE);
    });

    it("refuses a range behind the end, and ignores what is no range", async () => {
        const behind = await fetch(video, { headers: { range: `bytes=${SIZE}-` } });
        expect(behind.status).to.equal(416);
        expect(behind.headers.get("content-range")).to.equal(`bytes */${SIZE}`);
        for (const range of ["bytes=-", "bytes=9-3", "bytes=0-1,5-6", "lines=1-2"]) {
            const response = await fetch(video, { headers: { range } });
            await response.body?.cancel();
            expect(response.status, range).to.equal(200);
        }
    });

    it("hands a guarded file to the bearer of the token only", async () => {
        const url = `${server.url}/files/secret.txt`;
        expect((await fetch(url)).status).to.equal(401);
        expect((await fetch(url, { headers: { authorization: "Bearer guess" } })).status).to.equal(401);
        expect((await bytes(url, { authorization: "Bearer open sesame" })).toString()).to.equal("for members");
    });

    it("serves an empty file, and 404 for one it does not have", async () => {
        expect(await bytes(`${server.url}/files/empty.bin`)).to.have.length(0);
        expect((await fetch(`${server.url}/files/nothing.bin`)).status).to.equal(404);
        expect((await fetch(`${server.url}/files/..%2Fsecret.txt`)).status).to.equal(404);
        expect((await fetch(`${server.url}/generated/video.mp4`)).status).to.equal(400);
    });

    it("keeps to the bandwidth it was asked for", async () => {
        const startedAt = performance.now();
        expect(await bytes(`${server.url}/generated/slow.mp4?size=100000&rate=200000`)).to.have.length(100_000);
        // 100 kB at 200 kB/s; the last piece and the allowance for a late start are not waited for.
        expect(performance.now() - startedAt).to.be.greaterThan(350);
    });

    it("closes at once, in the middle of a slow transfer", async () => {
        const other = await startFileServer({ port: 0, catalogue: new Map() });
        const response = await fetch(`${other.url}/generated/endless.mp4?size=${2 ** 40}&rate=1000000`);
        const reading = response.arrayBuffer().then(
            () => "whole",
            () => "cut off",
        );
        await other.close();
        expect(await reading).to.equal("cut off");
    });
});

describe("the sample network's conversations", () => {
    it("offers three rooms of text, photos, a voice message, a document and a large video", async () => {
        const network = await startSampleNetwork(OPTIONS);
        await network.close();
        const messages = network.conversations.flatMap((conversation) => conversation.messages);
        expect(network.conversations).to.have.length(3);
        expect(new Set(messages.map(({ id }) => id))).to.have.property("size", messages.length);
        const kinds = new Set(messages.map(({ file }) => file?.kind ?? "text"));
        expect([...kinds]).to.have.members(["text", "image", "video", "document", "voice", "sticker"]);
    });

    it("says something right behind the large video", async () => {
        const network = await startSampleNetwork(OPTIONS);
        await network.close();
        const messages = network.conversations.flatMap((conversation) => conversation.messages);
        const large = messages.findIndex(({ file }) => file?.original.size === OPTIONS.videoBytes);
        expect(messages[large + 1]).to.have.property("file", undefined);
    });

    it("says the same with the same ids at every start on the same port", async () => {
        const first = await startSampleNetwork(OPTIONS);
        await first.close();
        const second = await startSampleNetwork({ ...OPTIONS, port: first.port });
        await second.close();
        expect(JSON.stringify(second.conversations)).to.equal(JSON.stringify(first.conversations));
    });

    it("has another message for a video of another size", async () => {
        const [small, large] = [await videoIds(1), await videoIds(2)];
        expect(small).to.have.length(1);
        expect(large).to.have.length(1);
        expect(small).not.to.deep.equal(large);
    });

    it("gives every file where it says, with the headers it says, as it was", async () => {
        const network = await startSampleNetwork(OPTIONS);
        try {
            const messages = network.conversations.flatMap((conversation) => conversation.messages);
            const attachments = messages
                .flatMap(({ file }) => [file, file?.thumbnail])
                .filter((file) => file !== undefined);
            await Promise.all(attachments.map(expectOriginal));
            expect(attachments.some(({ location }) => location.kind === "http" && location.headers)).to.equal(true);
        } finally {
            await network.close();
        }
    });

    it("delivers in order and stops in the middle of a pause", async () => {
        const messages = [1, 2, 3].map((n): RemoteMessage => ({ id: String(n), sender: "ines", timestamp: n }));
        const stop = new AbortController();
        const seen: string[] = [];
        for await (const { id } of delivered(messages, { pauseAfter: () => 20_000, signal: stop.signal })) {
            seen.push(id);
            setImmediate(() => stop.abort());
        }
        expect(seen).to.deep.equal(["1"]);
    });
});

describe("a folder of one's own files", () => {
    let folder: string;

    beforeEach(async () => {
        folder = await mkdtemp(join(tmpdir(), "own-files-"));
    });

    afterEach(async () => {
        await rm(folder, { recursive: true });
    });

    it("becomes one conversation, folder by folder", async () => {
        await mkdir(join(folder, "b", "deep"), { recursive: true });
        await writeFile(join(folder, "z.jpg"), "a photo");
        await writeFile(join(folder, "b", "deep", "song.mp3"), "a song");
        await writeFile(join(folder, "b", "of no known kind"), "?");
        const { messages } = await folderConversation(folder);
        const kinds = messages
            .filter(({ file }) => file !== undefined)
            .map(({ file }) => `${file?.kind} ${file?.name}`);
        expect(kinds).to.deep.equal(["image z.jpg", "document of no known kind", "audio song.mp3"]);
        expect(messages.filter(({ text }) => text !== undefined)).to.have.length(4);
    });

    it("has the same ids again, and another one for a file that changed", async () => {
        await writeFile(join(folder, "a.txt"), "a");
        await writeFile(join(folder, "b.txt"), "b");
        const ids = async (): Promise<string[]> => (await folderConversation(folder)).messages.map(({ id }) => id);
        const first = await ids();
        expect(await ids()).to.deep.equal(first);
        await writeFile(join(folder, "b.txt"), "changed");
        const second = await ids();
        expect(second.filter((id) => !first.includes(id))).to.have.length(1);
    });

    it("follows no links, and says so when there is nothing", async () => {
        await symlink("/etc/hostname", join(folder, "link.txt"));
        const { messages } = await folderConversation(folder);
        expect(messages).to.have.length(1);
        expect(messages[0]?.text).to.contain("no file");
    });
});
