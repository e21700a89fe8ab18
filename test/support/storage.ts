import type { Readable } from "node:stream";
import {
    DeleteObjectCommand,
    GetObjectCommand,
    PutObjectCommand,
    S3Client,
    S3ServiceException,
} from "@aws-sdk/client-s3";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import type { PresignedMedia } from "../../src/dev/homeserver/index.ts";
import { steadyNow } from "../../src/uploads/steady-clock.ts";
import { FaultGate } from "./faults/gate.ts";

/** A running S3 that verifies signatures and has the bucket. */
export interface S3 {
    readonly url: string;
    readonly accessKeyId: string;
    readonly secretAccessKey: string;
    close(): Promise<void>;
}

export const BUCKET = "media";

// It warns once a process of Node.js versions that its later releases will not run on.
process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";

/** An S3 behind a gate, and what a homeserver does with it: it signs addresses, and reads what was put there. */
export class Storage {
    readonly gate: FaultGate;
    readonly #s3: S3;
    readonly #client: S3Client;

    private constructor(s3: S3, gate: FaultGate) {
        this.#s3 = s3;
        this.gate = gate;
        const { accessKeyId, secretAccessKey } = s3;
        this.#client = new S3Client({
            endpoint: gate.url,
            region: "us-east-1",
            forcePathStyle: true,
            credentials: { accessKeyId, secretAccessKey },
            maxAttempts: 1,
            // Otherwise the checksum of an empty body would be signed.
            requestChecksumCalculation: "WHEN_REQUIRED",
            responseChecksumValidation: "WHEN_REQUIRED",
        });
    }

    static async open(s3: S3, gate: Parameters<typeof FaultGate.open>[1] = {}): Promise<Storage> {
        return new Storage(s3, await FaultGate.open(s3.url, gate));
    }

    /** @param contentType Signed as well, so that no other will do. */
    sign(
        key: string,
        { signedAt = new Date(steadyNow()), contentType }: { signedAt?: Date; contentType?: string } = {},
    ) {
        const command = new PutObjectCommand({
            Bucket: BUCKET,
            Key: key,
            ...(contentType !== undefined && { ContentType: contentType }),
        });
        const signableHeaders = new Set(["host", ...(contentType === undefined ? [] : ["content-type"])]);
        return getSignedUrl(this.#client, command, { expiresIn: 600, signingDate: signedAt, signableHeaders });
    }

    /** A homeserver's presigned mode over this storage. */
    media(given: Partial<PresignedMedia> = {}): PresignedMedia {
        return { uploadUrl: (mediaId) => this.sign(mediaId), read: (mediaId) => this.#read(mediaId), ...given };
    }

    async remove(key: string): Promise<void> {
        await this.#client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: key }));
    }

    async close(): Promise<void> {
        this.#client.destroy();
        await this.gate.close();
        await this.#s3.close();
    }

    async #read(key: string) {
        // Whatever a test has done to this process's clock.
        this.#client.config.systemClockOffset = steadyNow() - Date.now();
        try {
            const object = await this.#client.send(new GetObjectCommand({ Bucket: BUCKET, Key: key }));
            return {
                body: object.Body as Readable,
                size: object.ContentLength ?? 0,
                contentType: object.ContentType ?? "application/octet-stream",
            };
        } catch (error) {
            if (error instanceof S3ServiceException && error.$metadata.httpStatusCode === 404) return undefined;
            throw error;
        }
    }
}
