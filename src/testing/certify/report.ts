import { STEPS } from "./coverage.ts";
import type { Episode } from "./episode.ts";

/** What a certification has found. */
export interface CertificationReport {
    /** Whether something was killed and nothing was found. */
    readonly passed: boolean;
    readonly seed: number;
    readonly kills: number;
    readonly messages: number;
    readonly violations: readonly Violation[];
    /** How many kills came before and after the write of each step. */
    readonly steps: readonly { readonly step: string; readonly before: number; readonly after: number }[];
    /** How many kills found a job in this state. */
    readonly states: Readonly<Record<string, number>>;
    /** How many kills there were of each kind. */
    readonly moments: Readonly<Record<string, number>>;
    /** From `start()` to the first request, in milliseconds. */
    readonly recovery: { readonly count: number; readonly p50: number; readonly p99: number; readonly max: number };
    readonly durationMs: number;
    /** All of it, for people. */
    readonly text: string;
}

export interface Violation {
    readonly episode: number;
    readonly finding: string;
}

export function reportOf(run: {
    readonly seed: number;
    readonly episodes: ReadonlyMap<number, Episode>;
    readonly durationMs: number;
}): CertificationReport {
    const { seed, episodes, durationMs } = run;
    const all = [...episodes.values()];
    const violations = [...episodes].flatMap(([episode, { violations }]) =>
        violations.map((finding) => ({ episode, finding })),
    );
    const hits = counted(all.flatMap(({ hits }) => hits));
    const recoveries = all.flatMap(({ recoveries }) => recoveries).toSorted((one, other) => one - other);
    const at = (part: number): number =>
        recoveries[Math.min(recoveries.length - 1, Math.floor(recoveries.length * part))] ?? 0;
    const kills = all.reduce((sum, episode) => sum + episode.kills.length, 0);
    const report = {
        passed: kills > 0 && violations.length === 0,
        seed,
        kills,
        messages: all.reduce((sum, { messages }) => sum + messages, 0),
        violations,
        steps: STEPS.map(({ name }) => ({
            step: name,
            before: hits[`${name} before`] ?? 0,
            after: hits[`${name} after`] ?? 0,
        })),
        states: counted(all.flatMap(({ states }) => states)),
        moments: counted(all.flatMap(({ kills }) => kills)),
        recovery: { count: recoveries.length, p50: at(0.5), p99: at(0.99), max: recoveries.at(-1) ?? 0 },
        durationMs,
    };
    return { ...report, text: textOf(report, episodes.size) };
}

function counted(words: readonly string[]): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const word of words) counts[word] = (counts[word] ?? 0) + 1;
    return Object.fromEntries(Object.entries(counts).toSorted(([, one], [, other]) => other - one));
}

function textOf(report: Omit<CertificationReport, "text">, episodes: number): string {
    const { kills, messages, seed, durationMs, recovery, violations } = report;
    const row = (name: string, ...cells: (string | number)[]): string =>
        `  ${name.padEnd(28)}${cells.map((cell) => String(cell).padStart(9)).join("")}`;
    return [
        `${kills} kills in ${episodes} episodes, ${messages} messages, ${Math.round(durationMs / 1000)} s, seed ${seed}`,
        "",
        row("kills at the write of", "before", "after"),
        ...report.steps.map(({ step, before, after }) => row(step, before, after)),
        "",
        row("kills that found a job", "kills"),
        ...Object.entries(report.states).map(([state, count]) => row(state, count)),
        "",
        row("kills by what was waited for", "kills"),
        ...Object.entries(report.moments).map(([moment, count]) => row(moment, count)),
        "",
        `work taken up after start(): p50 ${recovery.p50} ms, p99 ${recovery.p99} ms, max ${recovery.max} ms (${recovery.count} starts)`,
        "",
        ...(violations.length === 0
            ? [kills > 0 ? "Every promise was kept." : "Nothing could be killed: this says nothing."]
            : [
                  `${violations.length} findings:`,
                  ...violations.map(({ episode, finding }) => `  seed ${seed}, episode ${episode}: ${finding}`),
              ]),
    ].join("\n");
}
