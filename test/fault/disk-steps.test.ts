import { expect } from "chai";
import PQueue from "p-queue";
import { type Life, lived } from "../support/faults/disk-life.ts";
import { A_ROOM, MORE_OF_IT } from "../support/faults/disk-scripts.ts";
import { startS3rver } from "../support/s3rver.ts";
import type { S3 } from "../support/storage.ts";

/** For every n that a life has, its n-th write or sync fails. */
const SYNC = { calls: "fdatasync", error: "EIO" } as const;
const WRITE = { calls: "write", error: "ENOSPC" } as const;

interface Kind {
    readonly name: string;
    /** What a life has at least; two commits that meet are one. */
    readonly steps: number;
    readonly lifeOf: (nth: number) => Omit<Life, "nth">;
}

const isEven = (nth: number): boolean => nth % 2 === 0;
const KINDS: readonly Kind[] = [
    // What is killed at a step of the one kind goes on in the other.
    {
        name: "EIO of fdatasync, at each step of a life",
        steps: 20,
        lifeOf: (nth) => ({ ...SYNC, script: A_ROOM, presigned: false, isKilled: !isEven(nth) }),
    },
    {
        name: "ENOSPC of write, at each step of a life, presigned",
        steps: 20,
        lifeOf: (nth) => ({ ...WRITE, script: A_ROOM, presigned: true, isKilled: isEven(nth) }),
    },
    {
        name: "one or the other, at each step of thumbnails, edits, redactions, encrypted files and pictures",
        steps: 20,
        lifeOf: (nth) => ({
            ...(isEven(nth) ? SYNC : WRITE),
            script: MORE_OF_IT,
            presigned: false,
            isKilled: isEven(Math.floor(nth / 2)),
        }),
    },
];
const SIDE_BY_SIDE = 3;

describe("a journal that fails once", function () {
    this.timeout(600_000);
    let s3: S3;
    before(async () => {
        s3 = await startS3rver();
    });
    after(() => s3.close());

    for (const kind of KINDS) {
        it(kind.name, async () => {
            const queue = new PQueue({ concurrency: SIDE_BY_SIDE });
            let steps = Number.POSITIVE_INFINITY;
            const live = async (nth: number): Promise<void> => {
                const life = { ...kind.lifeOf(nth), nth };
                const isMet = await lived(life, s3).catch((thrown: unknown) => {
                    if (thrown instanceof Error)
                        thrown.message = `step ${nth}${life.isKilled ? ", killed" : ""}: ${thrown.message}`;
                    throw thrown;
                });
                if (!isMet) steps = Math.min(steps, nth - 1);
            };
            const lives: Promise<void>[] = [];
            for (let nth = 1; nth <= steps; nth++) {
                await queue.onSizeLessThan(1);
                const one = queue.add(() => live(nth));
                one.catch(() => {});
                lives.push(one);
            }
            await Promise.all(lives);
            expect(steps, "steps that failed").to.be.at.least(kind.steps);
        });
    }
});
