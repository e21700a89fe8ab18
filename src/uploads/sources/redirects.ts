import type { IncomingMessage } from "node:http";
import { MediaError } from "../../errors.ts";

/** Where a source is asked: an address, and whether it is the origin that the headers and the password were given for. */
export interface Hop {
    readonly url: URL;
    readonly isTrusted: boolean;
}

/** RFC 9110 §15.4, those whose `Location` is another address of the same file. */
const REDIRECTS = new Set([300, 301, 302, 303, 307, 308]);

/** Where a redirect leads; undefined where the answer is none. */
export function redirectOf({ statusCode = 0, headers }: IncomingMessage): string | undefined {
    return REDIRECTS.has(statusCode) && headers.location !== "" ? headers.location : undefined;
}

/** Throws SOURCE_REFUSED where nobody should go. Once another origin was passed through, no later one is trusted. */
export function nextHop({ url, isTrusted }: Hop, location: string): Hop {
    // Node.js reads headers as Latin-1; what is beyond ASCII in an address is UTF-8.
    const next = parse(Buffer.from(location, "latin1").toString(), url);
    if (next?.protocol !== "https:" && next?.protocol !== "http:")
        throw new MediaError("SOURCE_REFUSED", { detail: "redirected to something other than http(s)" });
    if (url.protocol === "https:" && next.protocol !== "https:")
        throw new MediaError("SOURCE_REFUSED", { detail: "redirected from https to http" });
    const staysTrusted = isTrusted && next.origin === url.origin;
    next.username = staysTrusted ? url.username : "";
    next.password = staysTrusted ? url.password : "";
    return { url: next, isTrusted: staysTrusted };
}

function parse(location: string, base: URL): URL | undefined {
    return URL.canParse(location, base.href) ? new URL(location, base) : undefined;
}
