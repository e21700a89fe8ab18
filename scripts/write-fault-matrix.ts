import { readFile, writeFile } from "node:fs/promises";
import { DOCUMENT, withTable } from "../test/support/faults/document.ts";

/** Writes the table of the fault matrix into its document. */
await writeFile(DOCUMENT, withTable(await readFile(DOCUMENT, "utf8")));
