import { expect } from "chai";
import { StorageBreaker } from "../../src/uploads/targets/storage-breaker.ts";

describe("the breaker before a storage", () => {
    const url = "https://s3.example.org/a?signature=x";
    let now: number;
    let storages: StorageBreaker;
    beforeEach(() => {
        now = 1_000_000;
        storages = new StorageBreaker(() => now);
    });
    const fail = (times: number, at = url): void => {
        for (let count = 0; count < times; count++) storages.begin(at)?.ended("PRESIGNED_UNAVAILABLE");
    };

    it("lets files by after five failures in a row, and asks with one of them when its pause is over", () => {
        fail(4);
        expect(storages.begin(url)).to.not.equal(undefined);
        fail(1);
        expect(storages.begin(url)).to.equal(undefined);
        expect(storages.begin("https://s3.example.org/b")).to.equal(undefined);
        expect(storages.begin("https://s3.example.com/b")).to.not.equal(undefined);
        now += 30_000;
        const probe = storages.begin(url);
        expect(probe).to.not.equal(undefined);
        expect(storages.begin(url), "while one tries").to.equal(undefined);
        probe?.ended("stored");
        fail(4);
        expect(storages.begin(url), "begun anew").to.not.equal(undefined);
    });

    it("waits by a clock that nobody sets", () => {
        const { now: real } = Date;
        let ahead = 0;
        Date.now = () => real() + ahead;
        try {
            storages = new StorageBreaker();
            fail(5);
            ahead = 24 * 3_600_000;
            expect(storages.begin(url)).to.equal(undefined);
        } finally {
            Date.now = real;
        }
    });

    it("pauses longer each time, ten minutes at most", () => {
        fail(5);
        for (const minutes of [0.5, 1, 2, 4, 8, 10, 10]) {
            now += minutes * 60_000 - 1;
            expect(storages.begin(url), `${minutes} min`).to.equal(undefined);
            now += 1;
            fail(1);
        }
    });

    it("takes failures under way together for one outage", () => {
        const tries = Array.from({ length: 20 }, () => storages.begin(url));
        for (const one of tries) one?.ended("PRESIGNED_UNAVAILABLE");
        now += 30_000;
        expect(storages.begin(url)).to.not.equal(undefined);
    });

    it("is opened by a refusal, which is an answer, and not by another's failure", () => {
        fail(4);
        storages.begin(url)?.ended("SOURCE_UNAVAILABLE");
        fail(1);
        expect(storages.begin(url)).to.equal(undefined);
        now += 30_000;
        storages.begin(url)?.ended("CLOSED");
        const probe = storages.begin(url);
        expect(probe, "the next one asks").to.not.equal(undefined);
        probe?.ended("PRESIGNED_REFUSED");
        fail(4);
        expect(storages.begin(url)).to.not.equal(undefined);
    });

    it("remembers a bounded number of storages", () => {
        for (let index = 0; index < 100; index++) fail(5, `https://storage-${index}.example.org/`);
        fail(20);
        expect(storages.begin(url)).to.not.equal(undefined);
        expect(storages.begin("https://storage-7.example.org/")).to.equal(undefined);
    });
});
