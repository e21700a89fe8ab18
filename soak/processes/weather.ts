import type { IncomingMessage, ServerResponse } from "node:http";
import { randomOf } from "../plan.ts";

/** What can befall a request to a file server or a storage. */
export const TROUBLES = ["stall", "reset", "unavailable", "rate-limited", "truncated"] as const;

export interface Weather {
    readonly trouble: (typeof TROUBLES)[number];
    /** Of the requests, 0 to 1. */
    readonly share: number;
}

/** Spoils a share of a server's requests for as long as there is trouble. */
export class Spoiler {
    readonly #random: () => number;
    #weather: Weather | undefined;

    constructor(seed: number) {
        this.#random = randomOf(seed);
    }

    set(weather: Weather | undefined): void {
        this.#weather = weather;
    }

    /**
     * Whether it answered, or never will.
     * @param length Of the body that would be sent; undefined where a broken body makes no sense.
     */
    spoil(request: IncomingMessage, response: ServerResponse, length?: number): boolean {
        if (this.#weather === undefined || this.#random() >= this.#weather.share) return false;
        switch (this.#weather.trouble) {
            case "stall":
                request.resume();
                return true;
            case "reset":
                request.socket.resetAndDestroy();
                return true;
            case "unavailable":
                request.resume();
                response.writeHead(503).end("no");
                return true;
            case "rate-limited":
                request.resume();
                response.writeHead(429, { "retry-after": "1" }).end("no");
                return true;
            case "truncated":
                if (length === undefined) return false;
                response.writeHead(200, { "content-length": length });
                response.write(Buffer.alloc(Math.ceil(length / 2)), () => request.socket.destroy());
                return true;
        }
    }
}
