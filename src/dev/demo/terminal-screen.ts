import { styleText } from "node:util";
import { MultiBar, type SingleBar } from "cli-progress";
import type { Screen } from "./screen.ts";
import { formatBytes } from "./units.ts";

const CLEAR_TO_END_OF_LINE = "\u001B[K";
const LABEL_WIDTH = 24;
/** Of a line's second and further parts: below the summary's texts, or below what is said. */
const INDENT = " ".repeat(8);
const MESSAGE_INDENT = " ".repeat(15);
const COLOURS = ["cyan", "yellow", "magenta", "green", "blue"] as const;

/** Lines that scroll, and below them a bar for each transfer under way. */
export class TerminalScreen implements Screen {
    readonly #output: NodeJS.WriteStream;
    readonly #bars: MultiBar;
    readonly #barById = new Map<string, SingleBar>();
    readonly #headings: string[] = [];

    constructor(output: NodeJS.WriteStream) {
        this.#output = output;
        this.#bars = new MultiBar({
            stream: output,
            format: "  {bar} {percentage} %  {label}  {of}",
            barCompleteChar: "█",
            barIncompleteChar: "░",
            barsize: 24,
            autopadding: true,
            hideCursor: true,
            // Long lines of text have to wrap; the bars are kept short enough not to.
            linewrap: true,
            clearOnComplete: true,
            gracefulExit: false,
            emptyOnZero: true,
        });
    }

    line(text: string, heading = ""): void {
        const room = Math.max(20, this.#output.columns - heading.length);
        const [first = "", ...more] = wrapped(text, room, heading === "" ? INDENT : MESSAGE_INDENT);
        const lines = [this.#coloured(heading) + first, ...more.map((line) => " ".repeat(heading.length) + line)];
        for (const line of lines) {
            // The library's timer, which also writes the lines, runs only while there is or was a bar.
            if (this.#bars.isActive) this.#bars.log(`${line}${CLEAR_TO_END_OF_LINE}\n`);
            else this.#output.write(`${line}\n`);
        }
    }

    progress(id: string, { label, done, total }: { label: string; done: number; total: number }): void {
        const payload = { label: shortened(label), of: `${formatBytes(done)} of ${formatBytes(total)}` };
        const bar = this.#barById.get(id);
        if (bar === undefined) this.#barById.set(id, this.#bars.create(total, done, payload));
        else bar.update(done, payload);
    }

    end(id: string): void {
        const bar = this.#barById.get(id);
        if (bar === undefined) return;
        this.#barById.delete(id);
        this.#bars.remove(bar);
    }

    /** Each heading in a colour of its own, so that the eye can follow one room. */
    #coloured(heading: string): string {
        if (heading.trim() === "" || process.env["NO_COLOR"]) return heading;
        if (!this.#headings.includes(heading)) this.#headings.push(heading);
        return styleText(COLOURS[this.#headings.indexOf(heading) % COLOURS.length] ?? "cyan", heading);
    }

    close(): void {
        if (!this.#bars.isActive) return;
        for (const id of this.#barById.keys()) this.end(id);
        // Writes the lines that still wait for the timer.
        this.#bars.update();
        this.#bars.stop();
    }
}

/** Breaks between words. */
function wrapped(text: string, width: number, indent: string): string[] {
    const lines: string[] = [];
    let rest = text;
    while (rest.length > width) {
        const space = rest.lastIndexOf(" ", width);
        if (space <= indent.length) break;
        lines.push(rest.slice(0, space));
        rest = indent + rest.slice(space + 1);
    }
    return [...lines, rest];
}

function shortened(label: string): string {
    const text = label.length <= LABEL_WIDTH ? label : `${label.slice(0, LABEL_WIDTH - 1)}…`;
    return text.padEnd(LABEL_WIDTH);
}
