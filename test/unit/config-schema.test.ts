import { readFile } from "node:fs/promises";
import { Ajv, type ValidateFunction } from "ajv";
import { expect } from "chai";
import { ConfigValidator } from "matrix-appservice-bridge";
import { parse } from "yaml";
import { configSchema } from "../../scripts/config-schema.ts";
import { checkOptions } from "../../src/bridge/options-check.ts";
import type { BridgeMediaOptions } from "../../src/index.ts";

/** The options that only code can give; `onFailure` as a function is one of them too. */
type InCode = "connectors" | "describe" | "store" | "logger";

/** One value for each other option: the compiler asks for a new option here, and refuses one that is gone. */
const EVERY: Required<Omit<BridgeMediaOptions, InCode>> = {
    dataDir: "./data",
    concurrency: 8,
    smallFileConcurrency: 0,
    maxPendingJobs: 1000,
    maxFileBytes: 2 ** 30,
    maxSpoolBytes: 0,
    maxAttempts: 3,
    transferThread: false,
    allowPrivateAddresses: ["10.1.0.0/16"],
    sourceLimits: { "https://files.example.org": { concurrency: 2, perSecond: 0.5 }, default: { perSecond: 5 } },
    uploadAs: "bot",
    encryption: "two-pass",
    onFailure: "redact",
    failureTexts: {
        default: "{name}[ ({size})]: {reason}",
        FILE_TOO_LARGE: "Zu groß[, Grenze {limit}]",
        reasons: { SOURCE_NOT_FOUND: "nicht mehr da" },
    },
    reserveAhead: 0,
    keepResultsMs: 3_600_000,
    dedupeCheckMs: 0,
    dedupeKeepMs: 3_600_000,
    timeLimits: { connectMs: 5000, headersMs: 5000, idleMs: 5000, totalMs: 60_000 },
};

const REFUSED: readonly Record<string, unknown>[] = [
    {},
    { dataDir: "" },
    { dataDir: "d", concurrency: 0 },
    { dataDir: "d", concurrency: 1.5 },
    { dataDir: "d", uploadAs: "ghost" },
    { dataDir: "d", reserveAhead: 6 },
    { dataDir: "d", allowPrivateAddresses: "10.0.0.0/8" },
    { dataDir: "d", timeLimits: { connectMs: 1 } },
    { dataDir: "d", timeLimits: { connect: 1000 } },
    { dataDir: "d", sourceLimits: { default: { concurrency: 0 } } },
    { dataDir: "d", sourceLimits: { default: { perMinute: 1 } } },
    { dataDir: "d", maxFileByte: 1 },
    { dataDir: "d", failureTexts: { default: "{who} did it" } },
    { dataDir: "d", failureTexts: { default: "[{name}" } },
    { dataDir: "d", failureTexts: { reasons: { CANCELLED: "" } } },
];

describe("config.schema.yaml", () => {
    let text: string;
    let schema: { properties: Record<string, { default?: unknown }> };
    let accepts: ValidateFunction;
    before(async () => {
        text = await readFile(new URL("../../config.schema.yaml", import.meta.url), "utf8");
        schema = parse(text) as typeof schema;
        accepts = new Ajv({ strict: true, allowUnionTypes: true, useDefaults: true }).compile(schema);
    });

    it("is what `npm run config-schema` writes", () => {
        expect(text).to.equal(configSchema());
    });

    it("names every option that plain data can express", () => {
        expect(schema.properties).to.have.all.keys(Object.keys(EVERY));
    });

    it("accepts what the component accepts", () => {
        for (const options of [EVERY, { dataDir: "d" }, { dataDir: "d", allowPrivateAddresses: true }]) {
            expect(accepts(structuredClone(options)), JSON.stringify(accepts.errors)).to.equal(true);
            checkOptions(options);
        }
    });

    it("refuses what the component refuses", () => {
        for (const options of REFUSED) {
            const what = JSON.stringify(options);
            expect(accepts(structuredClone(options)), what).to.equal(false);
            expect(() => checkOptions(options as unknown as BridgeMediaOptions), what).to.throw();
        }
    });

    it("fills in the component's defaults", () => {
        const filled = { dataDir: "d" };
        accepts(filled);
        const { connectors: _, logger: __, ...checked } = checkOptions({ dataDir: "d" });
        expect(filled).to.deep.equal(checked);
    });

    it("stands in a bridge's own schema, as matrix-appservice-bridge reads it", () => {
        const validator = new ConfigValidator({
            type: "object",
            properties: { media: schema, homeserver: { type: "object" } },
            required: ["media"],
        });
        expect(() => validator.validate({ homeserver: {}, media: EVERY })).not.to.throw();
        const { error } = console;
        // It prints what it finds.
        console.error = () => {};
        try {
            for (const media of REFUSED) expect(() => validator.validate({ media }), JSON.stringify(media)).to.throw();
        } finally {
            console.error = error;
        }
    });
});
