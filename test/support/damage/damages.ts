import { cp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Random } from "./random.ts";

/** What can happen to the files of a journal: each damages one and says in words what it did. */
export type DamageKind = (journal: string, random: Random, earlier: string) => Promise<string>;

type Alter = (bytes: Buffer, random: Random) => { bytes: Buffer; what: string };

const cut: Alter = (bytes, random) => {
    const left = random.below(bytes.length);
    return { bytes: bytes.subarray(0, left), what: `cut to ${left} of ${bytes.length}` };
};
const cutEnd: Alter = (bytes, random) => {
    const off = 1 + random.below(Math.min(3000, bytes.length));
    return { bytes: bytes.subarray(0, bytes.length - off), what: `last ${off} cut off of ${bytes.length}` };
};
const flipped: Alter = (bytes, random) => {
    const flips = 1 + random.below(12);
    for (let flip = 0; flip < flips; flip++) {
        const at = random.below(bytes.length);
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    }
    return { bytes, what: `${flips} bits flipped in ${bytes.length} bytes` };
};
const overwritten =
    (fill: "zeros" | "noise"): Alter =>
    (bytes, random) => {
        const from = random.below(bytes.length);
        const to = Math.min(bytes.length, from + 1 + random.below(5000));
        for (let at = from; at < to; at++) bytes[at] = fill === "zeros" ? 0 : random.below(256);
        return { bytes, what: `${fill} from ${from} to ${to} of ${bytes.length}` };
    };
const emptied: Alter = () => ({ bytes: Buffer.alloc(0), what: "emptied" });

const LOG = /\.log$/;
const TABLE = /\.ldb$/;
const MANIFEST = /^MANIFEST-/;

function altered(files: RegExp, alter: Alter): DamageKind {
    return async (journal, random) => {
        const name = random.pick(await namesOf(journal, files));
        const before = await readFile(join(journal, name));
        const { bytes, what } = alter(Buffer.from(before), random);
        await writeFile(join(journal, name), bytes);
        return `${name}: ${what}`;
    };
}

function removed(files: RegExp): DamageKind {
    return async (journal, random) => {
        const name = random.pick(await namesOf(journal, files));
        await rm(join(journal, name));
        return `${name}: removed`;
    };
}

const current =
    (text: string): DamageKind =>
    async (journal) => {
        await writeFile(join(journal, "CURRENT"), text);
        return `CURRENT: ${JSON.stringify(text)}`;
    };

export const DAMAGES: Readonly<Record<string, DamageKind>> = {
    "log cut": altered(LOG, cut),
    "log's end cut": altered(LOG, cutEnd),
    "log garbled": altered(LOG, flipped),
    "log zeroed": altered(LOG, overwritten("zeros")),
    "log overwritten": altered(LOG, overwritten("noise")),
    "log removed": removed(LOG),
    "table cut": altered(TABLE, cut),
    "table garbled": altered(TABLE, flipped),
    "table zeroed": altered(TABLE, overwritten("zeros")),
    "table overwritten": altered(TABLE, overwritten("noise")),
    "table removed": removed(TABLE),
    "MANIFEST cut": altered(MANIFEST, cut),
    "MANIFEST garbled": altered(MANIFEST, flipped),
    "MANIFEST removed": removed(MANIFEST),
    "CURRENT garbled": current("nonsense"),
    "CURRENT empty": current(""),
    "CURRENT pointing nowhere": current("MANIFEST-009999\n"),
    "CURRENT removed": removed(/^CURRENT$/),
    "all of LevelDB's files removed": async (journal) => {
        for (const name of await namesOf(journal, /^(?!COUNT$)/)) await rm(join(journal, name), { recursive: true });
        return "all but COUNT removed";
    },
    "count removed": removed(/^COUNT$/),
    "count garbled": altered(/^COUNT$/, flipped),
    "count emptied": altered(/^COUNT$/, emptied),
    "an older journal": async (journal, _random, earlier) => {
        const count = await readFile(join(journal, "COUNT"));
        await rename(journal, `${journal}.newer`);
        await cp(earlier, journal, { recursive: true });
        await writeFile(join(journal, "COUNT"), count);
        await rm(`${journal}.newer`, { recursive: true });
        return "as it was some time before, but for COUNT";
    },
};

async function namesOf(journal: string, files: RegExp): Promise<string[]> {
    return (await readdir(journal)).filter((name) => files.test(name)).toSorted();
}
