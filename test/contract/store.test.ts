import { LevelStore } from "../../src/store/level.ts";
import { storeContract } from "../../src/testing/index.ts";

describe("the store's contract", () => {
    describe("LevelStore", () => {
        for (const { name, run } of storeContract((directory) => new LevelStore(directory))) it(name, run);
    });
});
