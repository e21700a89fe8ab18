import type { Job } from "../../src/uploads/job.ts";

/** A job of the present that is ready and has not been tried, as far as `fields` do not say otherwise. */
export function someJob(fields: Partial<Job> = {}): Job {
    return {
        id: "job",
        state: "ready",
        uploader: "@a:b",
        source: { kind: "http", url: "https://files.example/" },
        createdAt: 0,
        backfill: false,
        attempts: 0,
        ...fields,
    };
}
