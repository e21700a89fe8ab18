import { Command, CommanderError, InvalidArgumentError } from "commander";
import { parseBytes } from "./units.ts";

export interface DemoOptions {
    /** A folder of one's own files, instead of the sample conversations. */
    readonly media?: string;
    /** A real homeserver, instead of the embedded one; only together with `registration`. */
    readonly homeserver?: string;
    readonly registration?: string;
    readonly invite?: string;
    readonly once: boolean;
    readonly json: boolean;
    readonly data: string;
    /** Bytes. */
    readonly videoSize: number;
    /** Milliseconds. */
    readonly pause: number;
}

/** Exit codes, as `--help` tells them. */
export const EXIT = { ok: 0, differs: 1, usage: 2, interrupted: 130 } as const;

const EXPLANATION = `
Without options: three chat rooms of a sample network are bridged into an embedded homeserver, until Ctrl-C. State is
kept in the data folder; started again, even after kill -9, the demo goes on where it stopped.

At the end each room is read back, every file is downloaded and compared by SHA-256. --json prints:
  messages       remote messages sent            media          files behind them
  bytes          size of the files compared      outOfOrder     messages out of place, or there twice
  missing        messages that are not there     mismatched     files that differ or cannot be downloaded
  failed         files whose transfer failed     seconds        from the first message until the last file was up
  textSendMsP50, mediaSendMsP50                  median time until a message stood in its room (null: none was new)
  peakRssMb      most memory used, in 10^6 bytes

Exit code: 0 when outOfOrder, missing and mismatched are 0; 1 when not, or when something went wrong; 2 for wrong
arguments; 130 when --once was interrupted.`;

/** Reads the command line. Answers an exit code where there is nothing to run: help was asked for, or it is wrong. */
export function readOptions(argv: readonly string[]): DemoOptions | number {
    const program = new Command("npm start --")
        .description("Bridges a chat network with media into Matrix, and shows the files follow their messages.")
        .option("--media <folder>", "send the files of this folder instead of the sample conversations")
        .option("--homeserver <url>", "a real homeserver instead of the embedded one (needs --registration)", httpUrl)
        .option("--registration <file>", "appservice registration (YAML) that the homeserver knows")
        .option("--invite <user id>", "invite this user into the rooms, to look on with any Matrix client", userId)
        .option("--once", "end when everything is transferred", false)
        .option("--json", "print one JSON object and nothing else (needs --once)", false)
        .option("--data <folder>", "where state is kept", "./data")
        .option("--video-size <size>", "size of the large sample video: 64MiB, 1GB, 500000", bytes, 64 * 2 ** 20)
        .option("--pause <ms>", "time between two messages of a sample room, in milliseconds", milliseconds, 250)
        .addHelpText("after", EXPLANATION)
        .allowExcessArguments(true)
        .exitOverride();
    try {
        program.parse(argv, { from: "user" });
        const options = program.opts<DemoOptions>();
        const wrong = contradiction(options, program.args);
        return wrong === undefined ? options : program.error(`error: ${wrong}`);
    } catch (error) {
        // Commander has printed the help, or the sentence that names the argument.
        if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
        throw error;
    }
}

function contradiction(options: DemoOptions, [stray]: readonly string[]): string | undefined {
    const { json, once, homeserver, registration, invite } = options;
    if (stray !== undefined) return `there is no argument '${stray}', only options: see --help`;
    if (json && !once) return "option '--json' needs '--once': without it the demo does not end by itself";
    if (homeserver !== undefined && registration === undefined)
        return "option '--homeserver' needs '--registration <file>'";
    if (registration !== undefined && homeserver === undefined)
        return "option '--registration' needs '--homeserver <url>'";
    if (invite !== undefined && homeserver === undefined) return "option '--invite' needs '--homeserver <url>'";
    return undefined;
}

function httpUrl(value: string): string {
    const url = URL.canParse(value) ? new URL(value) : undefined;
    if (url?.protocol === "http:" || url?.protocol === "https:") return url.href.replace(/\/+$/, "");
    throw new InvalidArgumentError("Give an address that begins with http:// or https://.");
}

function userId(value: string): string {
    if (/^@[^:]+:.+$/.test(value)) return value;
    throw new InvalidArgumentError("Give a user id such as @alice:example.org.");
}

function bytes(value: string): number {
    const size = parseBytes(value);
    if (size !== undefined && size > 0 && size <= 2 ** 40) return size;
    throw new InvalidArgumentError("Give a size such as 64MiB, 1GB or 500000.");
}

function milliseconds(value: string): number {
    const ms = Number(value);
    if (/^\d+$/.test(value) && ms <= 60_000) return ms;
    throw new InvalidArgumentError("Give a whole number from 0 to 60000.");
}
