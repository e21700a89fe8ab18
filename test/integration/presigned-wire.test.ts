import { createServer, type Server, type Socket } from "node:net";
import type { AddressInfo } from "node:net";
import { expect } from "chai";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";

/** What a storage sees of a presigned upload, byte by byte: more than was signed may make it refuse, or tell a secret. */
describe("a presigned upload on the wire", () => {
    let scene: Scene;
    let server: Server;
    const sockets = new Set<Socket>();
    const heads: string[] = [];

    beforeEach(async () => {
        heads.length = 0;
        sockets.clear();
        server = createServer((socket) => {
            sockets.add(socket);
            let received = Buffer.alloc(0);
            socket.on("data", (chunk: Buffer) => {
                received = Buffer.concat([received, chunk]);
                const end = received.indexOf("\r\n\r\n");
                const head = received.subarray(0, Math.max(0, end)).toString("latin1");
                const length = Number(/^content-length: (\d+)$/im.exec(head)?.[1] ?? Number.NaN);
                if (end < 0 || received.length < end + 4 + length) return;
                received = received.subarray(end + 4 + length);
                heads.push(head);
                socket.write("HTTP/1.1 200 OK\r\nSet-Cookie: id=1; Path=/\r\nContent-Length: 0\r\n\r\n");
            });
            socket.on("error", () => {});
        });
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    });
    afterEach(async () => {
        await closeScene(scene);
        for (const socket of sockets) socket.destroy();
        await new Promise((resolve) => server.close(resolve));
    });

    for (const method of ["PUT", "POST"] as const) {
        it(`${method} has the two headers that matter, and those of HTTP itself`, async () => {
            const { port } = server.address() as AddressInfo;
            const target = "/bucket/key%20with%2Fall?X-Amz-Signature=abc%2F%3D&response-content-disposition=a'b(c)*d";
            scene = await openScene({
                presigned: {
                    uploadUrl: () => `http://127.0.0.1:${port}${target}`,
                    method,
                    read: async () => undefined,
                },
            });
            const { world, remote, alice, roomId } = scene;
            world.homeserver.intercept(({ path }) =>
                path.endsWith("/complete") ? { status: 200, body: {} } : undefined,
            );
            const media = world.component();
            await media.start();
            // The second on the connection of the first, after an answer that sets a cookie.
            for (const size of [70_000, 10]) {
                const source = { kind: "http", url: remote.file(someBytes(size)), headers: { "x-a": "b" } } as const;
                await (await media.send(photoMessage(roomId, alice, source))).uploads[0]?.done;
            }
            expect(sockets.size).to.equal(1);
            expect(heads.map((head) => head.split("\r\n").toSorted())).to.deep.equal(
                [70_000, 10].map((size) =>
                    [
                        `${method} ${target.replace("'", "%27")} HTTP/1.1`,
                        "Connection: keep-alive",
                        `content-length: ${size}`,
                        "content-type: image/jpeg",
                        `Host: 127.0.0.1:${port}`,
                    ].toSorted((one, other) => (one < other ? -1 : 1)),
                ),
                heads[0],
            );
        });
    }

    it("goes to the path that the URL's dots lead to, and a fragment stays at home", async () => {
        const { port } = server.address() as AddressInfo;
        const given = "/a/../bucket/%2e%2e/b/./key%2Fx?sig=%7e%2F'#part";
        scene = await openScene({
            presigned: {
                uploadUrl: () => `http://127.0.0.1:${port}${given}`,
                method: "PUT",
                read: async () => undefined,
            },
        });
        const { world, remote, alice, roomId } = scene;
        world.homeserver.intercept(({ path }) => (path.endsWith("/complete") ? { status: 200, body: {} } : undefined));
        const media = world.component();
        await media.start();
        const source = { kind: "http", url: remote.file(someBytes(10)) } as const;
        await (await media.send(photoMessage(roomId, alice, source))).uploads[0]?.done;
        expect(heads.map((head) => head.split("\r\n")[0])).to.deep.equal(["PUT /b/key%2Fx?sig=%7e%2F%27 HTTP/1.1"]);
    });
});
