/**
 * A Matrix homeserver in one process, for `npm start` and the tests: rooms, appservices and the content repository behave
 * as Synapse's do, down to the errors and limits that a bridge has to live with. No federation, no encryption keys, no
 * passwords, and nothing pushed to appservices. It listens on 127.0.0.1 only.
 */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type AccountRecord, Accounts } from "./accounts.ts";
import { Faults } from "./faults.ts";
import type { Homeserver } from "./homeserver.ts";
import { Journal } from "./journal.ts";
import { textAt } from "./json.ts";
import { type MediaRecord, MediaStore } from "./media-store.ts";
import { Membership } from "./membership.ts";
import { type HomeserverOptions, withDefaults } from "./options.ts";
import { type RoomRecord, Rooms } from "./rooms.ts";
import { buildServer } from "./server.ts";
import { Transactions } from "./transactions.ts";

export type { StoredEvent } from "./event.ts";
export type { Intercept, InterceptedRequest, RequestRecord } from "./faults.ts";
export type { Homeserver } from "./homeserver.ts";
export type { StoredMedia } from "./media-store.ts";
export type { AppserviceRegistration, HomeserverOptions } from "./options.ts";
export type { PresignedMedia, StoredObject } from "./presigned-media.ts";

export async function startHomeserver(options: HomeserverOptions): Promise<Homeserver> {
    const settings = withDefaults(options);
    const { serverName } = settings;
    const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), "dev-homeserver-")));
    await mkdir(dataDir, { recursive: true });

    const accounts = new Accounts(serverName, options.appservices);
    const rooms = new Rooms();
    const media = new MediaStore(settings, join(dataDir, "media"));
    const journal = await Journal.open(join(dataDir, "homeserver.jsonl"), (record) => {
        restore(record, accounts, rooms, media);
    });
    accounts.persistTo(journal);
    rooms.persistTo(journal);
    await media.persistTo(journal);

    const faults = new Faults();
    const membership = new Membership(rooms, accounts);
    const transactions = new Transactions(settings.txnMemoryMs);
    const logger = options.logger === false ? undefined : options.logger;
    const app = await buildServer({ settings, accounts, rooms, membership, media, transactions }, faults, logger);

    const close = async (): Promise<void> => {
        // Held requests first, then connections, then what the cut uploads leave behind, then the journal.
        rooms.held.close();
        media.held.close();
        await app.close();
        await media.settled();
        await journal.close();
        if (options.dataDir === undefined) await rm(dataDir, { recursive: true, force: true });
    };

    const url = await app.listen({ host: "127.0.0.1", port: options.port ?? 0 }).catch(async (error: unknown) => {
        await close();
        throw error;
    });
    return {
        url,
        serverName,
        dataDir,
        requests: faults.requests,
        createUser: (localpart) => accounts.createUser(localpart),
        events: (roomId) => rooms.find(roomId)?.events ?? [],
        media: (mxc) => {
            const [, server, mediaId = ""] = /^mxc:\/\/([^/]+)\/([^/]+)$/u.exec(mxc) ?? [];
            return server === serverName ? media.content(mediaId) : undefined;
        },
        pendingMedia: (userId) => media.pending(userId),
        intercept: (decide) => faults.intercept(decide),
        close,
    };
}

type JournalRecord = AccountRecord | RoomRecord | MediaRecord;

/** The file is this server's own; what it wrote is not checked field by field. */
const isJournalRecord = (value: unknown): value is JournalRecord => textAt(value, "kind") !== undefined;

function restore(record: unknown, accounts: Accounts, rooms: Rooms, media: MediaStore): void {
    if (!isJournalRecord(record)) throw new Error("The homeserver's journal is damaged");
    switch (record.kind) {
        case "user":
        case "token":
            return accounts.restore(record);
        case "event":
        case "alias":
            return rooms.restore(record);
        case "media":
        case "content":
            return media.restore(record);
    }
}
