import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { configSchema } from "./config-schema.ts";

/** Writes `config.schema.yaml`; a test fails while it is not what this would write. */
writeFileSync(fileURLToPath(new URL("../config.schema.yaml", import.meta.url)), configSchema());
