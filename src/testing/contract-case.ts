/** One rule of a contract as a test of any runner: `for (const { name, run } of cases) it(name, run)`. */
export interface ContractCase {
    readonly name: string;
    /** Rejects with an AssertionError when the rule is broken. */
    readonly run: () => Promise<void>;
}
