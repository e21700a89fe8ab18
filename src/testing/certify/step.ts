import type { Deed } from "./deeds.ts";
import type { Journaled } from "./journal.ts";
import type { Word } from "./life.ts";
import type { PlannedMessage } from "./messages.ts";
import type { RecordedRequest, Recorder } from "./recorder/recorder.ts";

/**
 * Which steps the kills have hit, before and after the write that makes them last. It is told from outside: by what the
 * dead process had done on the wire and said, and by what its journal says of the same thing. Of what it had found only
 * what it did about it counts, or nearly every death would be one at every step.
 */
export interface Death {
    readonly recorder: Recorder;
    /** Those of the dead process. */
    readonly requests: readonly RecordedRequest[];
    /** When it came to live, and when it was killed, in ms since the epoch. */
    readonly since: number;
    readonly diedAt: number;
    /** It was told to close. */
    readonly isClosing: boolean;
    readonly journal: Journaled;
    /** What the process before it had left. */
    readonly earlier: Journaled;
    /** What it said of each message and deed: its last word. */
    readonly told: ReadonlyMap<string, Word>;
    readonly planned: ReadonlyMap<string, PlannedMessage>;
    readonly deeds: ReadonlyMap<string, Deed>;
    /** Addresses that this process had asked for. */
    readonly created: readonly string[];
}

/** One step: what takes effect, and the write that is owed for it. */
export interface Step {
    readonly name: string;
    /** It has taken effect, or was about to, and is not journaled. */
    readonly before: (death: Death) => boolean;
    /** It is journaled, and nobody has acted on it. */
    readonly after: (death: Death) => boolean;
}
