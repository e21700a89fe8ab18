import { z } from "zod";
import { MediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { silentLogger } from "../logger.ts";
import { addressPolicy } from "../uploads/sources/address-guard.ts";
import type { Connector } from "../uploads/sources/source.ts";
import { check } from "./check.ts";
import type { OnFailure } from "./failure-questions.ts";
import { FAILURE_REASON_KEYS, FAILURE_TEMPLATE, FAILURE_TEXT_KEYS, type FailureTexts } from "./failure-texts.ts";
import type { Describe } from "./finding.ts";
import type { BridgeMediaOptions } from "./options.ts";

/**
 * The door of `new BridgeMedia()`. Apart from the options' types, so that the published declarations ask nobody to
 * have zod's types.
 */

const FAILURE_TEMPLATE_RULE = "has an unknown placeholder, or a bracket without its other half";
const DAY = 24 * 3600_000;
const time = (fallback: number, what: string) =>
    z
        .int()
        .min(10)
        .max(7 * DAY)
        .default(fallback)
        .describe(what);

const KEYS: readonly string[] = [...FAILURE_TEXT_KEYS, "reasons"];
const template = z.string().max(1000).regex(FAILURE_TEMPLATE, FAILURE_TEMPLATE_RULE);
const failureTexts: z.ZodType<FailureTexts> = z
    .object({ reasons: z.partialRecord(z.enum(FAILURE_REASON_KEYS), z.string().min(1).max(300)).optional() })
    .catchall(template)
    .superRefine((given, context) => {
        for (const key of Object.keys(given))
            if (!KEYS.includes(key)) context.addIssue({ code: "custom", path: [key], message: "is not a code" });
    })
    .meta({ propertyNames: { enum: KEYS } });

/** The options that plain data can express, with their defaults: the source of `config.schema.yaml`. */
export const dataOptions = z.strictObject({
    dataDir: z.string().min(1).describe("Folder for the journal and the spool. One process at a time."),
    concurrency: z.int().min(1).max(256).default(4).describe("Transfers at once."),
    smallFileConcurrency: z
        .int()
        .min(0)
        .max(256)
        .default(4)
        .describe("Beside them, transfers of files of at most 1 MiB, by their message's word."),
    maxPendingJobs: z
        .int()
        .min(1)
        .default(200_000)
        .describe(
            "Messages and upload jobs that may be pending together; beyond it sending is refused for the time being.",
        ),
    maxFileBytes: z
        .int()
        .min(1)
        .optional()
        .describe("Largest file in bytes. Without it: what the homeserver allows the uploading user."),
    maxSpoolBytes: z
        .int()
        .min(0)
        .default(10 * 2 ** 30)
        .describe("Bytes on disk for files that have to be spooled."),
    transferThread: z
        .boolean()
        .default(true)
        .describe(
            "Whether files over 1 MiB, by their message's word, go through a thread of their own, so that messages do not wait for their bytes.",
        ),
    maxAttempts: z.int().min(1).max(100).default(10).describe("Tries of an upload that fails by the file's own fault."),
    allowPrivateAddresses: z
        .union([z.boolean(), z.array(z.string())])
        .default(false)
        .describe("Whether sources may lead into private networks: true for all, or a list of networks."),
    sourceLimits: z
        .record(
            z.string(),
            z.strictObject({
                concurrency: z.int().min(1).max(256).optional().describe("Transfers at once."),
                perSecond: z.number().min(0.001).max(1000).optional().describe("Transfers begun in a second."),
            }),
        )
        .default({})
        .describe(
            "Limits for single sources, by a connector's name or an origin (https://files.example.org); `default` stands for each source that is not named.",
        ),
    uploadAs: z.enum(["sender", "bot"]).default("sender").describe("Whose quota and upload limit count."),
    encryption: z
        .enum(["spool", "two-pass"])
        .default("spool")
        .describe(
            "How files of encrypted rooms are encrypted: their ciphertext kept on disk, or the source read twice.",
        ),
    onFailure: z
        .enum(["notice", "redact", "keep"])
        .default("notice")
        .describe("What becomes of an event whose file cannot come: an edit that says why, a redaction, or nothing."),
    failureTexts: failureTexts
        .default({})
        .describe(
            "The sentence for a file that cannot come, by code, as default, and unnamed in place of a missing name. Placeholders: {name} {size} {limit} {reason} {link}; a part in [square brackets] is left out where something in it is not known. What {reason} says stands in reasons, by code.",
        ),
    reserveAhead: z.int().min(0).max(5).default(2).describe("Reservations kept ahead for each user that sends media."),
    keepResultsMs: z
        .int()
        .min(60_000)
        .default(7 * DAY)
        .describe("How long results are remembered, in milliseconds."),
    dedupeCheckMs: z
        .int()
        .min(0)
        .default(DAY)
        .describe(
            "After how long a file that messages share is asked for once before it is used again, in milliseconds.",
        ),
    dedupeKeepMs: z
        .int()
        .min(60_000)
        .default(30 * DAY)
        .describe("How long a shared file is remembered without use, in milliseconds."),
    timeLimits: z
        .strictObject({
            connectMs: time(10_000, "To resolve a name, to connect, for the TLS handshake: each."),
            headersMs: time(
                30_000,
                "From the request until the answer's headers; after an upload a second for each 4 MiB of it, where that is longer.",
            ),
            idleMs: time(60_000, "Without a single byte."),
            totalMs: time(DAY / 4, "For one whole try of a transfer."),
            probeMs: z
                .int()
                .min(10)
                .max(60_000)
                .default(5000)
                .describe("To look at a file before its message is sent, where that is asked for."),
        })
        .prefault({})
        .describe("Time limits of a transfer's steps, in milliseconds."),
});

const isFunction = (value: unknown): boolean => typeof value === "function";
const connector = z.custom<Connector>(
    (value) => typeof value === "object" && value !== null && isFunction((value as Partial<Connector>).open),
    "must have open(ref, options)",
);
const logger = z.custom<Logger>(
    (value) =>
        typeof value === "object" &&
        value !== null &&
        (["debug", "info", "warn", "error"] as const).every((level) => isFunction((value as Partial<Logger>)[level])),
    "must have debug, info, warn and error",
);

const onFailure = z.custom<OnFailure>(isFunction, 'must be "notice", "redact", "keep" or a function');

type MakeStore = NonNullable<BridgeMediaOptions["store"]>;

const allOptions = dataOptions.extend({
    onFailure: z.union([dataOptions.shape.onFailure, onFailure]).default("notice"),
    connectors: z.record(z.string(), connector).default({}),
    describe: z.custom<Describe>(isFunction, "must be a function").optional(),
    store: z.custom<MakeStore>(isFunction, "must be a function").optional(),
    logger: logger.default(silentLogger),
});

/** The options with every default filled in. */
export type CheckedOptions = z.output<typeof allOptions>;

/** Throws INVALID_OPTION naming the option. */
export function checkOptions(options: BridgeMediaOptions): CheckedOptions {
    const checked = check<CheckedOptions>(allOptions, options, "INVALID_OPTION", "options");
    addressPolicy(checked.allowPrivateAddresses);
    for (const name of Object.keys(checked.sourceLimits)) {
        if (name === "default" || Object.hasOwn(checked.connectors, name) || isOrigin(name)) continue;
        const detail = "must be `default`, the name of a connector, or an origin such as https://files.example.org";
        throw new MediaError("INVALID_OPTION", { field: `sourceLimits.${name}`, detail });
    }
    return checked;
}

function isOrigin(text: string): boolean {
    return /^https?:/.test(text) && URL.canParse(text) && new URL(text).origin === text;
}
