import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import type { PresignedMedia } from "../../../src/dev/homeserver/index.ts";

/** A storage behind a homeserver that takes whatever is put there; for the users whose files are wanted there. */
export interface PlainStorage {
    readonly media: PresignedMedia;
    close(): Promise<void>;
}

export async function startStorage(isMeant: (userId: string) => boolean): Promise<PlainStorage> {
    const objects = new Map<string, Buffer>();
    const server = createServer((request, response) => {
        const chunks: Buffer[] = [];
        request.on("data", (chunk: Buffer) => chunks.push(chunk));
        request.on("end", () => {
            objects.set(request.url ?? "", Buffer.concat(chunks));
            response.writeHead(200).end();
        });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return {
        media: {
            uploadUrl: (mediaId, userId) => (isMeant(userId) ? `${url}/${mediaId}` : undefined),
            async read(mediaId) {
                const object = objects.get(`/${mediaId}`);
                if (object === undefined) return undefined;
                return { body: Readable.from([object]), size: object.length, contentType: "application/octet-stream" };
            },
        },
        async close() {
            server.closeAllConnections();
            await new Promise((resolve) => server.close(resolve));
        },
    };
}
