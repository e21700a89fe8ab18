import { once } from "node:events";
import { Closers } from "./closers.ts";
import { runDemo } from "./demo.ts";
import { DemoFailure, reasonOf } from "./failure.ts";
import { type DemoOptions, EXIT, readOptions } from "./options.ts";
import { watchForOrphaning } from "./orphan.ts";
import { isFaithful, summary } from "./report.ts";
import { PlainScreen, type Screen, silentScreen } from "./screen.ts";
import { TerminalScreen } from "./terminal-screen.ts";

/** `npm start`: bridges a sample chat network, and shows how the files follow their messages. */
async function main(): Promise<number> {
    const options = readOptions(process.argv.slice(2));
    if (typeof options === "number") return options;
    const stop = stopSignal();
    const closers = new Closers();
    try {
        return await run(options, stop, closers);
    } catch (error) {
        if (stop.aborted) return interrupted(options);
        throw error;
    } finally {
        await closers.close();
    }
}

async function run(options: DemoOptions, stop: AbortSignal, closers: Closers): Promise<number> {
    const screen = screenFor(options);
    closers.add(() => screen.close());
    const report = await runDemo(options, { screen, signal: stop, closers });
    if (report === undefined) {
        screen.line("Stopped. The next start with the same data folder goes on from here.");
        return interrupted(options);
    }
    if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
    for (const line of ["", ...summary(report), ""]) screen.line(line);
    if (!options.once && !stop.aborted) {
        screen.line("Everything stays up until Ctrl-C.");
        await once(stop, "abort");
    }
    return isFaithful(report) ? EXIT.ok : EXIT.differs;
}

/** Without --once, Ctrl-C is how the demo is meant to end. */
function interrupted({ once }: DemoOptions): number {
    return once ? EXIT.interrupted : EXIT.ok;
}

function screenFor({ json }: DemoOptions): Screen {
    if (json) return silentScreen;
    return process.stdout.isTTY ? new TerminalScreen(process.stdout) : new PlainScreen(process.stdout);
}

const PATIENCE_MS = 1000;

/** What ends the demo early. npm, the shell and the terminal may each pass the same Ctrl-C on: ending once is enough. */
function stopSignal(): AbortSignal {
    const stop = new AbortController();
    let toldAt = 0;
    const end = (): void => {
        toldAt ||= performance.now();
        stop.abort();
    };
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
        process.on(signal, () => {
            // Somebody who asks again after a while does not want to wait for a homeserver that does not answer.
            if (stop.signal.aborted && performance.now() - toldAt > PATIENCE_MS) process.exit(EXIT.interrupted);
            end();
        });
    }
    // Nobody reads any more, as behind `| head`.
    process.stdout.on("error", end);
    void watchForOrphaning(end);
    return stop.signal;
}

try {
    process.exitCode = await main();
} catch (error) {
    process.stderr.write(`${error instanceof DemoFailure ? error.message : `The demo failed: ${reasonOf(error)}`}\n`);
    process.exitCode = error instanceof DemoFailure ? error.exitCode : EXIT.differs;
}
