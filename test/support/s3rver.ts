import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import S3rver from "@20minutes/s3rver";
import { BUCKET, type S3 } from "./storage.ts";

/** s3rver in this process; it verifies signatures, their times and what they cover. */
export async function startS3rver(): Promise<S3> {
    const directory = await mkdtemp(join(tmpdir(), "bridge-media-s3rver-"));
    const server = new S3rver({
        address: "127.0.0.1",
        port: 0,
        silent: true,
        directory,
        vhostBuckets: false,
        configureBuckets: [{ name: BUCKET }],
    });
    const { port } = await server.run();
    return {
        url: `http://127.0.0.1:${port}`,
        accessKeyId: "S3RVER",
        secretAccessKey: "S3RVER",
        async close() {
            await server.close();
            await rm(directory, { recursive: true, force: true });
        },
    };
}
