import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import { BUCKET, type S3 } from "../support/storage.ts";
import { until } from "../support/until.ts";
import { synapsePython } from "../synapse/harness/python.ts";
import { freePort } from "../synapse/harness/synapse.ts";

const READY_WITHIN_MS = 60_000;
const KEYS = { accessKeyId: "access-key-of-the-tests", secretAccessKey: "secret-key-of-the-tests" };

/** A SeaweedFS of its own on loopback: master, volume server, filer and the S3 gateway, which verifies signatures. */
export async function startSeaweedfs(): Promise<S3> {
    const python = await synapsePython();
    const directory = await mkdtemp(join(tmpdir(), "bridge-media-seaweedfs-"));
    const parts = ["master", "volume", "filer", "s3"];
    const names = parts.flatMap((part) => [`-${part}.port`, `-${part}.port.grpc`]);
    const free = await freePorts(names.length);
    const ports = Object.fromEntries(names.map((name, index) => [name, free[index] ?? 0]));
    const s3Port = ports["-s3.port"];
    const config = join(directory, "s3.json");
    await writeFile(config, JSON.stringify(identities()));
    const log = await open(join(directory, "log"), "a");
    const child = spawn(
        python,
        [
            join(import.meta.dirname, "run-weed.py"),
            join(dirname(python), "weed"),
            "-logtostderr=true",
            "server",
            `-dir=${directory}`,
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            ...Object.entries(ports).map(([name, port]) => `${name}=${port}`),
            "-master.telemetry=false",
            "-volume.minFreeSpace=1MiB",
            "-s3",
            `-s3.config=${config}`,
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            `-s3.localSocket=${join(directory, "s3.sock")}`,
            `-filer.localSocket=${join(directory, "filer.sock")}`,
        ],
        // Its standard input is the cord by which it goes down with this process.
        { stdio: ["pipe", log.fd, log.fd] },
    );
    await once(child, "spawn");
    await log.close();
    const url = `http://127.0.0.1:${s3Port}`;
    const close = async (): Promise<void> => {
        const gone = child.exitCode === null && child.signalCode === null ? once(child, "exit") : undefined;
        child.stdin?.end();
        await gone;
        await rm(directory, { recursive: true, force: true });
        // It puts sockets here whatever it is told.
        for (const [name, port] of Object.entries(ports)) {
            const [, part] = /^-(\w+)\.port\.grpc$/.exec(name) ?? [];
            if (part !== undefined) await rm(join(tmpdir(), `seaweedfs-${part}-grpc-${port}.sock`), { force: true });
        }
    };
    try {
        await until(() => child.exitCode !== null || makesBucket(url), {
            what: "SeaweedFS' first bucket",
            limitMs: READY_WITHIN_MS,
        });
        if (child.exitCode !== null) throw new Error("SeaweedFS did not start");
    } catch (cause) {
        const lines = (await readFile(join(directory, "log"), "utf8")).split("\n").slice(-20).join("\n");
        await close();
        throw new Error(`SeaweedFS: ${lines}`, { cause });
    }
    return { url, ...KEYS, close };
}

/** Each another one: what is free twice is still one. */
async function freePorts(count: number): Promise<number[]> {
    const ports = new Set<number>();
    while (ports.size < count) ports.add(await freePort());
    return [...ports];
}

/** False as long as not all of its parts have found each other. */
async function makesBucket(url: string): Promise<boolean> {
    const client = new S3Client({
        endpoint: url,
        region: "us-east-1",
        forcePathStyle: true,
        credentials: KEYS,
        maxAttempts: 1,
        requestChecksumCalculation: "WHEN_REQUIRED",
    });
    const made = client.send(new CreateBucketCommand({ Bucket: BUCKET })).finally(() => client.destroy());
    return made.then(
        () => true,
        (error: Error) => error.name === "BucketAlreadyOwnedByYou" || error.name === "BucketAlreadyExists",
    );
}

function identities(): object {
    const credentials = [{ accessKey: KEYS.accessKeyId, secretKey: KEYS.secretAccessKey }];
    return { identities: [{ name: "tests", credentials, actions: ["Admin", "Read", "Write", "List"] }] };
}
