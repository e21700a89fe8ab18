import { expect } from "chai";
import { MediaError } from "../../src/errors.ts";
import { Unrepeated } from "../../src/matrix/unrepeated.ts";

describe("ids that the homeserver gives", () => {
    it("come again for the same request, and for no other", () => {
        const answers = new Unrepeated();
        answers.check("$one", "txn1");
        answers.check("$one", "txn1");
        let refused: unknown;
        try {
            answers.check("$one", "txn2");
        } catch (error) {
            refused = error;
        }
        expect(refused).to.be.instanceOf(MediaError);
        expect(refused).to.include({ code: "HOMESERVER_ANSWER_INVALID", ambiguous: true, retryable: true });
    });

    it("are remembered for a while only", () => {
        const answers = new Unrepeated();
        for (let index = 0; index <= 1024; index++) answers.check(`$${index}`, "txn");
        expect(() => answers.check("$0", "other")).not.to.throw();
        expect(() => answers.check("$1024", "other")).to.throw();
    });
});
