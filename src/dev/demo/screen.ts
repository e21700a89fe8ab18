/** Where a person looks on. */
export interface Screen {
    /** Adds a line that stays. `heading` stands in front of it, and says to what it belongs. */
    line(text: string, heading?: string): void;
    /** Shows how far a transfer is. */
    progress(id: string, transfer: { readonly label: string; readonly done: number; readonly total: number }): void;
    /** Takes the transfer off again. */
    end(id: string): void;
    /** Leaves the terminal as it was. */
    close(): void;
}

export const silentScreen: Screen = { line() {}, progress() {}, end() {}, close() {} };

/** Plain lines, for a pipe or a log file. */
export class PlainScreen implements Screen {
    readonly #output: NodeJS.WritableStream;
    readonly #quarters = new Map<string, number>();

    constructor(output: NodeJS.WritableStream) {
        this.#output = output;
    }

    line(text: string, heading = ""): void {
        this.#output.write(`${heading}${text}`.trimEnd().concat("\n"));
    }

    progress(id: string, { label, done, total }: { label: string; done: number; total: number }): void {
        const quarter = total === 0 ? 0 : Math.floor((4 * done) / total);
        if (quarter <= (this.#quarters.get(id) ?? 0) || quarter === 4) return;
        this.#quarters.set(id, quarter);
        this.line(`  ${label}: ${quarter * 25} %`);
    }

    end(id: string): void {
        this.#quarters.delete(id);
    }

    close(): void {}
}
