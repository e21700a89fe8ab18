/** What tests and the demo look at and interfere with: the log of requests, and faults injected into them. */

export interface RequestRecord {
    readonly method: string;
    /** As it came, percent-encoding and all, without the query. */
    readonly path: string;
    /** The user the request was made for; undefined when it was not authenticated. */
    readonly user: string | undefined;
    /** When the request arrived, in ms since the epoch. */
    readonly at: number;
    /** 0 when the connection was cut before the request was handled; after a `drop: "after"`, what the answer would have been. */
    readonly status: number;
}

export type InterceptedRequest = Pick<RequestRecord, "method" | "path" | "user">;

/** Answer instead of the server, after a delay or at once; or cut the connection; or only delay the handling. */
export type Intercept =
    | {
          readonly status: number;
          readonly body?: unknown;
          readonly headers?: Readonly<Record<string, string>>;
          readonly delayMs?: number;
      }
    | { readonly drop: "before" | "after"; readonly delayMs?: number }
    | { readonly delayMs: number };

type Decide = (request: InterceptedRequest) => Intercept | undefined;

const MAX_RECORDS = 100_000;
/** Taken out at once, so that a full log costs one shift of the array in ten thousand requests. */
const FORGET = 10_000;

export class Faults {
    readonly #records: RequestRecord[] = [];
    readonly #deciders = new Set<{ readonly decide: Decide }>();

    get requests(): readonly RequestRecord[] {
        return this.#records;
    }

    note(record: RequestRecord): void {
        if (this.#records.length >= MAX_RECORDS) this.#records.splice(0, FORGET);
        this.#records.push(record);
    }

    intercept(decide: Decide): () => void {
        const entry = { decide };
        this.#deciders.add(entry);
        return () => this.#deciders.delete(entry);
    }

    /** The first decision there is. */
    decide(request: InterceptedRequest): Intercept | undefined {
        for (const { decide } of this.#deciders) {
            const intercept = decide(request);
            if (intercept !== undefined) return intercept;
        }
        return undefined;
    }
}
