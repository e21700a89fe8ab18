import { createHash } from "node:crypto";

/** The recording homeserver's content repository, and what it knows of the storage behind it. */

export interface RecordedAddress {
    readonly uri: string;
    readonly uploader: string;
    readonly createdAt: number;
    /** Its key in the storage, where its content is wanted there. */
    readonly presigned: boolean;
    content?: Buffer;
    /** When its content came, in ms since the epoch. */
    filledAt?: number;
    /** When the answer that said so was handed to the system; undefined where none was. */
    confirmedAt?: number;
    /** When the answer that told of it was handed to the system; undefined where none was. */
    answeredAt?: number;
    /** The homeserver does not know it any more when it is to be filled. */
    readonly isForgotten: boolean;
    /** The homeserver was told that the storage has it. */
    isTold?: boolean;
    /** When the storage took it; undefined where it has not. */
    storedAt?: number;
}

/** The same bytes at two addresses. */
export interface Doubled {
    readonly uri: string;
    readonly first: RecordedAddress;
}

export interface Answer {
    readonly status: number;
    readonly body: { readonly [key: string]: unknown };
}

export const OK: Answer = { status: 200, body: {} };

export function refusal(status: number, errcode: string): Answer {
    return { status, body: { errcode, error: errcode } };
}

const SERVER = "certify.example";
const LIFETIME_MS = 24 * 3600_000;
/** Of one user: a file that loses more of them one after the other is told as failed. */
const MAX_FORGOTTEN = 3;

export class Media {
    readonly #addresses = new Map<string, RecordedAddress>();
    readonly #byContent = new Map<string, RecordedAddress>();
    /** What was asked that must never be asked. */
    readonly complaints: string[] = [];
    /** Addresses that had their content when somebody came to fill them. */
    readonly refilled: string[] = [];
    readonly doubled: Doubled[] = [];
    #count = 0;

    get addresses(): Iterable<RecordedAddress> {
        return this.#addresses.values();
    }

    find(uri: unknown): RecordedAddress | undefined {
        return typeof uri === "string" ? this.#addresses.get(uri.replace(`mxc://${SERVER}/`, "")) : undefined;
    }

    /**
     * @param storageUrl Where a presigned upload of the id goes; undefined for a user whose files the homeserver takes itself.
     * @param mayBeForgotten Whether it is to be one of the few that are forgotten.
     */
    create(uploader: string, storageUrl: ((id: string) => string) | undefined, mayBeForgotten: boolean): Answer {
        const own = [...this.#addresses.values()].filter((address) => address.uploader === uploader);
        const isForgotten = mayBeForgotten && own.filter((address) => address.isForgotten).length < MAX_FORGOTTEN;
        const id = `media${++this.#count}`;
        const uri = `mxc://${SERVER}/${id}`;
        const createdAt = Date.now();
        this.#addresses.set(id, { uri, uploader, createdAt, presigned: storageUrl !== undefined, isForgotten });
        const presigned = storageUrl && {
            "com.beeper.msc3870.upload_url": storageUrl(id),
            "com.beeper.msc3870.upload_method": "PUT",
        };
        return { status: 200, body: { content_uri: uri, unused_expires_at: createdAt + LIFETIME_MS, ...presigned } };
    }

    /** Somebody has been told of this address. */
    heard(uri: unknown): void {
        const address = this.find(uri);
        if (address !== undefined) address.answeredAt = Date.now();
    }

    /** What speaks against filling the address; undefined where nothing does. */
    refuses(id: string, uploader: string): Answer | undefined {
        const address = this.#addresses.get(id);
        if (address === undefined || address.isForgotten) return refusal(404, "M_NOT_FOUND");
        if (address.uploader !== uploader) return refusal(403, "M_FORBIDDEN");
        if (address.content !== undefined) {
            this.refilled.push(address.uri);
            return refusal(409, "M_CANNOT_OVERWRITE_MEDIA");
        }
        return undefined;
    }

    fill(id: string, uploader: string, content: Buffer): Answer {
        const refused = this.refuses(id, uploader);
        if (refused !== undefined) return refused;
        const address = this.#addresses.get(id);
        if (address !== undefined) this.#keep(address, content);
        return OK;
    }

    /** Whoever filled it has been told. */
    confirmed(id: string): void {
        const address = this.#addresses.get(id);
        if (address !== undefined) address.confirmedAt ??= Date.now();
    }

    /** The storage has taken it: as often as it comes, as storages do. */
    stored(id: string): void {
        const address = this.#addresses.get(id);
        if (address === undefined) return;
        if (address.isTold === true)
            this.complaints.push(`${address.uri} went to the storage again after the homeserver was told of it`);
        address.storedAt = Date.now();
    }

    /** @param find What the storage has of it. */
    async complete(id: string, uploader: string, find: () => Promise<Buffer | undefined>): Promise<Answer> {
        const refused = this.refuses(id, uploader);
        if (refused !== undefined) return refused;
        const address = this.#addresses.get(id);
        if (address !== undefined) address.isTold = true;
        const content = await find();
        return content === undefined ? refusal(404, "M_NOT_FOUND") : this.fill(id, uploader, content);
    }

    #keep(address: RecordedAddress, content: Buffer): void {
        address.content = content;
        address.filledAt = Date.now();
        const hash = createHash("sha256").update(content).digest("hex");
        const first = this.#byContent.get(hash);
        if (first === undefined) this.#byContent.set(hash, address);
        else this.doubled.push({ uri: address.uri, first });
    }

    download(id: string): Answer | Buffer {
        const address = this.#addresses.get(id);
        if (address === undefined || address.isForgotten) return refusal(404, "M_NOT_FOUND");
        return address.content ?? refusal(504, "M_NOT_YET_UPLOADED");
    }
}
