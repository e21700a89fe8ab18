/**
 * What a logger has to have; winston, matrix-appservice-bridge's Logger and `console` fit as they are, pino with its two
 * arguments turned round. What was thrown is given to it only as `loggable()` in redact.ts shows it: a logger writes
 * whatever it gets, to the last level.
 */
export interface Logger {
    debug(message: string, ...details: unknown[]): void;
    info(message: string, ...details: unknown[]): void;
    warn(message: string, ...details: unknown[]): void;
    error(message: string, ...details: unknown[]): void;
}

function nothing(): void {}

/** The default: a library does not write to its host's output unasked. */
export const silentLogger: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };
