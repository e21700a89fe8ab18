import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parse, stringify } from "yaml";

/** What Synapse reads: its configuration and the appservice registration. */

const EXAMPLE = join(import.meta.dirname, "../../../registration.example.yaml");

/** The name in the example's namespace, so that the example is used as it stands. */
export const SERVER_NAME = "example.org";
export const AS_TOKEN = randomBytes(16).toString("hex");

export interface SynapseOptions {
    /** Whether the registration has its `rate_limited: false`. @default false */
    readonly rateLimited: boolean;
    /** `max_upload_size`, bytes. @default 64 MiB */
    readonly maxUploadBytes: number;
    /** `unused_expiration_time`: how long an address waits for its file. @default a day, as Synapse has it */
    readonly unusedExpirationMs: number;
    /** `rc_message`; meets only a rate-limited appservice. @default so much that it never shows */
    readonly messageRate: { readonly per_second: number; readonly burst_count: number };
}

export interface Registration {
    readonly senderLocalpart: string;
    /** A user id in the ghosts' namespace. */
    ghost(name: string): string;
}

/** Writes the example registration with tokens of its own to `path`. */
export async function writeRegistration(path: string, rateLimited: boolean): Promise<Registration> {
    const registration = parse(await readFile(EXAMPLE, "utf8")) as {
        sender_localpart: string;
        namespaces: { users: { regex: string }[] };
        rate_limited?: boolean;
    };
    if (rateLimited) delete registration.rate_limited;
    const tokens = { as_token: AS_TOKEN, hs_token: randomBytes(16).toString("hex") };
    await writeFile(path, stringify({ ...registration, ...tokens }));
    const regex = registration.namespaces.users[0]?.regex ?? "";
    return {
        senderLocalpart: registration.sender_localpart,
        ghost(name) {
            const userId = regex.replace(".*", name).replaceAll("\\", "");
            if (!new RegExp(`^${regex}$`).test(userId)) throw new Error(`${userId} does not fit ${regex}`);
            return userId;
        },
    };
}

/** Writes `homeserver.yaml` and what it names into `dir`, and returns its path. */
export async function writeConfiguration(dir: string, port: number, options: SynapseOptions): Promise<string> {
    const file = (name: string): string => join(dir, name);
    const seed = randomBytes(32).toString("base64").replace(/=+$/, "");
    await writeFile(file("signing.key"), `ed25519 a_test ${seed}\n`, { flag: "wx" }).catch(keepExisting);
    await writeFile(file("log.yaml"), stringify(logging()));
    const generous = { per_second: 1000, burst_count: 1000 };
    const configuration = {
        server_name: SERVER_NAME,
        report_stats: false,
        enable_registration: false,
        // Nothing beyond this machine is ever asked.
        listeners: [{ port, type: "http", bind_addresses: ["127.0.0.1"], resources: [{ names: ["client"] }] }],
        federation_domain_whitelist: [],
        trusted_key_servers: [],
        suppress_key_server_warning: true,
        presence: { enabled: false },
        database: { name: "sqlite3", args: { database: file("homeserver.db") } },
        signing_key_path: file("signing.key"),
        log_config: file("log.yaml"),
        pid_file: file("synapse.pid"),
        media_store_path: file("media"),
        max_upload_size: options.maxUploadBytes,
        unused_expiration_time: options.unusedExpirationMs,
        macaroon_secret_key: AS_TOKEN,
        form_secret: AS_TOKEN,
        app_service_config_files: [file("registration.yaml")],
        rc_message: options.messageRate,
        // Preparing rooms and ghosts is not what is being looked at. The media limits stay as Synapse has them.
        rc_registration: generous,
        rc_joins: { local: generous, remote: generous },
        rc_joins_per_room: generous,
        rc_invites: { per_room: generous, per_user: generous, per_issuer: generous },
        rc_room_creation: generous,
    };
    await writeFile(file("homeserver.yaml"), stringify(configuration));
    return file("homeserver.yaml");
}

function logging() {
    return {
        version: 1,
        formatters: { line: { format: "%(asctime)s %(levelname)s %(name)s %(request)s %(message)s" } },
        handlers: { out: { class: "logging.StreamHandler", formatter: "line", stream: "ext://sys.stdout" } },
        root: { level: "INFO", handlers: ["out"] },
        loggers: { "synapse.storage.SQL": { level: "WARNING" } },
        disable_existing_loggers: false,
    };
}

function keepExisting(error: NodeJS.ErrnoException): void {
    if (error.code !== "EEXIST") throw error;
}
