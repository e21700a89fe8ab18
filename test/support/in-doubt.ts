import { expect } from "chai";
import type { Homeserver } from "../../src/dev/homeserver/index.ts";
import type { BridgeMedia, MediaError } from "../../src/index.ts";
import { until } from "./until.ts";

/**
 * Sends something whose answer is lost, and nobody answers where it is looked for, before what is returned as `stop` is
 * called. `sending` resolves with the code of its rejection.
 */
export async function beginInDoubt(homeserver: Homeserver, send: () => Promise<unknown>) {
    const stop = homeserver.intercept(({ path }) => {
        if (path.includes("/send/")) return { drop: "after" };
        return path.includes("/messages") ? { drop: "before" } : undefined;
    });
    const sending = send().then(
        () => "none",
        ({ code }: MediaError): string => code,
    );
    await until(() => homeserver.requests.some(({ path }) => path.includes("/messages")));
    return { stop, sending };
}

/** The same, and the process ends meanwhile. Returns `stop`. */
export async function endInDoubt(
    homeserver: Homeserver,
    media: BridgeMedia,
    send: () => Promise<unknown>,
): Promise<() => void> {
    const { stop, sending } = await beginInDoubt(homeserver, send);
    await media.close();
    expect(await sending).to.equal("CLOSED");
    return stop;
}
