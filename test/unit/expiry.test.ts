import { expect } from "chai";
import fc from "fast-check";
import { Replacement, type ReplacementParts } from "../../src/bridge/replacement.ts";
import { MediaError } from "../../src/errors.ts";
import { renewAt, runsOut } from "../../src/uploads/expiry.ts";
import { someJob } from "../support/job.ts";

const HOUR = 3600_000;

describe("when an address is no longer good enough", () => {
    it("minutes before its end, and sooner for one that waits than for one whose turn it is", () => {
        const day = { createdAt: 0, expiresAt: 24 * HOUR };
        expect(renewAt(day)).to.equal(24 * HOUR - 5 * 60_000);
        expect(runsOut(day, 24 * HOUR - 61_000)).to.equal(false);
        expect(runsOut(day, 24 * HOUR - 60_000)).to.equal(true);
    });

    it("never where its end is not known", () => {
        expect(renewAt({ createdAt: 0 })).to.equal(undefined);
        expect(runsOut({ createdAt: 0 }, 1e15)).to.equal(false);
    });

    it("however short its life, not when it was just made, and always once it has ended", () => {
        fc.assert(
            fc.property(fc.integer({ min: 1, max: 1e12 }), fc.integer({ min: 1, max: 1e10 }), (createdAt, life) => {
                const address = { createdAt, expiresAt: createdAt + life };
                const ahead = renewAt(address) ?? 0;
                expect(runsOut(address, createdAt)).to.equal(false);
                expect(runsOut(address, address.expiresAt)).to.equal(true);
                expect(ahead).to.be.greaterThan(createdAt);
                expect(runsOut(address, Math.floor(ahead)), "ahead comes before the turn").to.equal(false);
            }),
        );
    });

    it("not at its turn before its event, which no successor could stand behind", async () => {
        const asked: string[] = [];
        const takeWarm = (userId: string): void => void asked.push(userId);
        const obtain = () => Promise.reject(new MediaError("NOT_SUPPORTED"));
        const reservations = { takeWarm, obtain, blockedFor: () => 0 };
        const replacement = new Replacement({ reservations } as unknown as ReplacementParts);
        const job = someJob({
            state: "transferring",
            messageId: "message",
            contentUri: "mxc://example.org/1",
            expiresAt: 1,
        });
        for (const dueAt of [undefined, 1]) {
            await replacement.renew({ ...job, dueAt }, false, new AbortController().signal);
            expect(asked).to.have.length(dueAt ?? 0);
        }
    });
});
