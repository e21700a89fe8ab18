import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";

/** A connector whose links run out: each opens twice in a process, and then wants to be refreshed. */
const files = Array.from({ length: 6 }, (_, index) => ({
    ref: { file: index, link: 0 },
    bytes: Buffer.alloc(20_000 * (index + 1), `file ${index} of the network `),
}));

export default function create() {
    const opened = new Map();
    const process = randomBytes(4).toString("hex");
    let given = 0;
    const connector = {
        async open({ file, link }, { offset }) {
            const count = (opened.get(link) ?? 0) + 1;
            opened.set(link, count);
            if (link === 0 || count > 2) throw Object.assign(new Error("The link has run out"), { status: 403 });
            const bytes = files[file].bytes.subarray(offset);
            return { stream: Readable.from([bytes.subarray(0, 1000), bytes.subarray(1000)]), size: bytes.length };
        },
        refresh: async ({ file }) => ({ file, link: `${process}-${++given}` }),
    };
    return { connector, files };
}
