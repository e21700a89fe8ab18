import { startComponent, type Context } from "../support/context.ts";
import type { Row } from "../support/result.ts";
import { type HomeserverAccess, roomWithGhost } from "../support/rooms.ts";
import { median } from "../support/statistics.ts";
import { openSynapse } from "../support/synapse.ts";
import type { Measurement } from "./measurement.ts";

const PAUSE_MS = 10;

/**
 * How much of a text `send()` is spent waiting for the journal: the part of all sends' time during which a commit was
 * awaited. The embedded homeserver answers from memory, so the share there is an upper bound; a Synapse shows it as
 * a bridge has it.
 */
export const journalCost: Measurement = {
    name: "journal-cost",
    about: "The journal's share of a text `send()`",
    async measure(context) {
        const rows = await share(
            context,
            await context.start("embedded-homeserver").call("start", await context.folder()),
            "embedded",
        );
        const synapse = await openSynapse(context);
        return synapse === undefined ? rows : [...rows, ...(await share(context, synapse, "Synapse"))];
    },
};

async function share(context: Context, access: HomeserverAccess, name: string): Promise<Row[]> {
    const count = context.quick ? 100 : 500;
    const component = await startComponent(context, access, { withJournalClock: true });
    const sends = { ...(await roomWithGhost(access)), count, pauseMs: PAUSE_MS };
    await component.call("texts", { ...sends, count: 50 });
    const values = { commits: [] as number[], reads: [] as number[], send: [] as number[], commit: [] as number[] };
    for (let run = 0; run < context.runs; run++) {
        const { milliseconds, journal } = await component.call("texts", sends);
        const total = milliseconds.reduce((sum, value) => sum + value, 0);
        const { commitMs, readMs } = journal;
        values.commits.push((100 * commitMs) / total);
        values.reads.push((100 * readMs) / total);
        values.send.push(median(milliseconds));
        values.commit.push(commitMs / count);
        context.log(`${name}: commits ${(commitMs / count).toFixed(2)} of ${(total / count).toFixed(2)} ms`);
    }
    await component.kill();
    return [
        { what: `commits, ${name}`, unit: "%", values: values.commits, ...(name === "Synapse" && { atMost: 10 }) },
        { what: `reads, ${name}`, unit: "%", values: values.reads },
        { what: `commits of one send, mean, ${name}`, unit: "ms", values: values.commit },
        { what: `\`send()\` p50, ${name}`, unit: "ms", values: values.send },
    ];
}
