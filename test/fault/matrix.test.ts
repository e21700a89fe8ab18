import { readFile } from "node:fs/promises";
import { expect } from "chai";
import PQueue from "p-queue";
import { type Report, runCell } from "../support/faults/cell.ts";
import type { Cell } from "../support/faults/cell-scene.ts";
import { cells } from "../support/faults/table.ts";
import { connectionFaults } from "../support/faults/connection-faults.ts";
import { DOCUMENT, withTable } from "../support/faults/document.ts";
import { makeCertificates, useResolver } from "../support/faults/network.ts";
import { startS3rver } from "../support/s3rver.ts";
import type { S3 } from "../support/storage.ts";

/** Cells that mostly wait for a time limit, and cells that work. */
const SIDE_BY_SIDE = { silent: 32, busy: 4 };
/** One cell or a few: FAULT_CELLS='event × reset' (a regular expression). */
const ONLY = new RegExp(process.env["FAULT_CELLS"] ?? "");

const nameOf = ({ step, fault }: Cell): string => `${step.name} × ${fault.name}`;

describe("the fault matrix", function () {
    this.timeout(600_000);
    const certificates = makeCertificates();
    const forgetNames = useResolver();
    const chosen = cells(connectionFaults(certificates)).filter((cell) => ONLY.test(nameOf(cell)));
    if (chosen.length === 0) throw new RangeError(`FAULT_CELLS=${ONLY.source} matches no cell`);
    const running = new Map<Cell, Promise<Report>>();
    let s3: S3;

    before(async () => {
        s3 = await startS3rver();
        const silent = new PQueue({ concurrency: SIDE_BY_SIDE.silent });
        const busy = new PQueue({ concurrency: SIDE_BY_SIDE.busy });
        for (const cell of chosen) {
            const isWaiting = cell.fault.silent === true || cell.step.after === "ending address";
            const queue = isWaiting ? silent : busy;
            const report = queue.add(() => runCell(cell, { s3, certificates }));
            // Heard by its own test below.
            report.catch(() => {});
            running.set(cell, report);
        }
    });
    after(async () => {
        await Promise.allSettled(running.values());
        await s3.close();
        forgetNames();
        certificates.close();
    });

    it("is what its document says", async () => {
        const text = await readFile(DOCUMENT, "utf8");
        expect(text, "npm run fault-matrix").to.equal(withTable(text));
    });

    for (const cell of chosen) it(nameOf(cell), async () => void (await running.get(cell)));
});
