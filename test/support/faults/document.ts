import { clockFaults } from "./clock.ts";
import { connectionFaults } from "./connection-faults.ts";
import { FAULTS } from "./faults.ts";
import { STEPS } from "./steps.ts";
import { judge } from "./table.ts";

/** The matrix as a table for people: what each cell ends as, which is what its test asserts. */

export const DOCUMENT = new URL("../../../docs/reliability-matrix.md", import.meta.url);
export const MARKERS = ["<!-- matrix: written by npm run fault-matrix -->", "<!-- end of matrix -->"] as const;

export function matrixTable(): string {
    const nobody = { key: "", cert: "" };
    const faults = [...FAULTS, ...connectionFaults({ otherName: nobody, selfSigned: nobody }), ...clockFaults()];
    const notes: string[] = [];
    const rows = faults.map((fault) => {
        const cells = STEPS.map((step) => {
            const judgement = judge(fault, step);
            if (typeof judgement === "string") return judgement;
            if (!notes.includes(judgement.skip)) notes.push(judgement.skip);
            return `n/a ${notes.indexOf(judgement.skip) + 1}`;
        });
        return `| ${[fault.name, ...cells].join(" | ")} |`;
    });
    return [
        `| fault | ${STEPS.map(({ name }) => name).join(" | ")} |`,
        `| --- |${" --- |".repeat(STEPS.length)}`,
        ...rows,
        "",
        ...notes.map((note, index) => `n/a ${index + 1}: ${note}.`),
    ].join("\n");
}

/** The document with the table as it is now. */
export function withTable(text: string): string {
    const [begin, end] = MARKERS;
    const [before = ""] = text.split(begin);
    const after = text.split(end)[1] ?? "\n";
    return `${before}${begin}\n\n${matrixTable()}\n\n${end}${after}`;
}
