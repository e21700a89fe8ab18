import { expect } from "chai";
import { MediaError, systemCode } from "../../src/errors.ts";
import { fromWire, toWire } from "../../src/uploads/thread/wire-error.ts";

describe("an error between threads", () => {
    const passed = (error: unknown) => fromWire(structuredClone(toWire(error)));

    it("is the same MediaError on the other side, with its causes", () => {
        const reset = Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" });
        const error = new MediaError("FILE_TOO_LARGE", {
            cause: new Error("wrapped", { cause: reset }),
            field: "media[0]",
            detail: "HTTP 413",
            status: 413,
            errcode: "M_TOO_LARGE",
            retryAfterMs: 5,
            limit: 7,
            ambiguous: true,
        });
        const there = passed(error);
        expect(there).to.be.instanceOf(MediaError);
        const { name, message, stack, code, retryable, field, status, errcode, retryAfterMs, limit, ambiguous } = error;
        const fields = {
            name,
            message,
            stack,
            code,
            retryable,
            field,
            status,
            errcode,
            retryAfterMs,
            limit,
            ambiguous,
        };
        expect(there).to.include(fields);
        const under = (there.cause as Error).cause as Error;
        expect([under.message, systemCode(under)]).to.deep.equal(["read ECONNRESET", "ECONNRESET"]);
    });

    it("may be anything that is thrown, and a circle of causes", () => {
        expect(passed("words").message).to.equal("words");
        const circle = new Error("circle");
        circle.cause = circle;
        expect(passed(circle).message).to.equal("circle");
    });

    it("gets through also where somebody makes stacks of something else", () => {
        const error = Object.assign(new Error("odd"), { stack: [() => {}] as unknown as string });
        expect(passed(error)).to.include({ name: "Error", message: "odd" });
    });
});
