import { type IncomingMessage, request } from "node:http";
import { request as secureRequest } from "node:https";
import type { Connector } from "../../../src/index.ts";

/** A network's connector as an embedder writes one: it makes its own connections, one for each request. */

/** Links to the photo, as a message may bring them. */
export const LINKS = { good: "/photo?link=good", "run out": "/photo?link=old" } as const;
export const FRESH_LINK = "fresh";
/** Answers with a link that is good. */
export const LINK_CALL = "/link";

export function gatedConnector(url: string): Connector {
    return {
        async open(ref, { signal }) {
            const answer = await ask(url + linkOf(ref), signal);
            const length = answer.headers["content-length"];
            return {
                stream: answer,
                mimetype: answer.headers["content-type"],
                ...(length !== undefined && { size: Number(length) }),
            };
        },
        async refresh() {
            const chunks: Buffer[] = [];
            for await (const chunk of await ask(url + LINK_CALL)) chunks.push(chunk as Buffer);
            const ref: unknown = JSON.parse(Buffer.concat(chunks).toString());
            return { link: linkOf(ref) };
        },
    };
}

function linkOf(ref: unknown): string {
    const { link } = ref as { readonly link?: unknown };
    if (typeof link !== "string") throw new TypeError("No link");
    return link;
}

function ask(url: string, signal?: AbortSignal): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
        const send = url.startsWith("https:") ? secureRequest : request;
        const asked = send(url, { agent: false, ...(signal !== undefined && { signal }) }, (answer) => {
            const { statusCode: status = 0, headers } = answer;
            if (status === 200) return resolve(answer);
            answer.resume();
            reject(Object.assign(new Error("The file did not come"), { status, response: { headers } }));
        });
        asked.on("error", reject).end();
    });
}
