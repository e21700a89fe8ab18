import type { BridgeMedia, JobInfo } from "../../index.ts";
import type { Screen } from "./screen.ts";
import { formatBytes } from "./units.ts";

/** Shows every transfer of the component: a bar while bytes flow, a line when the file is there or cannot come. */
export function showTransfers(media: BridgeMedia, screen: Screen, width: number): void {
    const startedAt = new Map<string, number>();
    media.on("job", (job) => {
        if (job.state === "transferring") {
            if (!startedAt.has(job.id)) startedAt.set(job.id, performance.now());
            screen.progress(job.id, { label: nameOf(job), done: job.transferredBytes, total: job.size ?? 0 });
            return;
        }
        const started = startedAt.get(job.id);
        if (started === undefined && job.state !== "failed") return;
        startedAt.delete(job.id);
        screen.end(job.id);
        const outcome = describe(job, (performance.now() - (started ?? performance.now())) / 1000);
        if (outcome !== undefined) screen.line(`      ${outcome}`, " ".repeat(width));
    });
}

function describe(job: JobInfo, seconds: number): string | undefined {
    const { state, size = 0, error } = job;
    if (state === "done") return `✓ ${nameOf(job)}, ${formatBytes(size)} in ${seconds.toFixed(1)} s`;
    if (state === "failed") return `✗ ${nameOf(job)}: ${error?.message ?? "failed"}`;
    return error === undefined ? undefined : `↻ ${nameOf(job)}, will be tried again: ${error.message}`;
}

function nameOf({ filename, at }: JobInfo): string {
    return filename ?? (at?.at(-1) === "thumbnail_url" ? "a thumbnail" : "a file");
}
