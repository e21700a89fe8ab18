import { BroadcastChannel, getEnvironmentData, threadId } from "node:worker_threads";
import { AUTHORITY, NAMES, type NameState, type Question, replaceLookup, type Told, trust } from "./network.ts";

/** Names and certificates in a thread of the component, as the tests' own thread says: loaded before anything of the component. */

const channel = new BroadcastChannel(NAMES);
// The thread ends when the component lets go of it.
channel.unref();
const waiting = new Map<number, (state: NameState | undefined) => void>();
let next = 0;

channel.addEventListener("message", (event: Event) => {
    const { thread, id, state } = (
        event as unknown as { readonly data: Told | (Question & { readonly state?: never }) }
    ).data;
    if (thread !== threadId || state === undefined) return;
    waiting.get(id)?.(state === "well" ? undefined : state);
    waiting.delete(id);
});
replaceLookup(
    (hostname) =>
        new Promise((resolve) => {
            const id = next++;
            waiting.set(id, resolve);
            // oxlint-disable-next-line unicorn/require-post-message-target-origin -- no window's
            channel.postMessage({ thread: threadId, id, hostname } satisfies Question);
        }),
);

const authority = getEnvironmentData(AUTHORITY);
if (typeof authority === "string") trust(authority);
