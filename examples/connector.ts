/** The connector of docs/sources-and-connectors.md: a network whose links run out after a while. */
import type { Connector } from "matrix-bridge-media";

/** What the journal keeps of a file: its id, which stays, and the link that was last given for it. */
interface Reference {
    readonly fileId: string;
    readonly link: string;
}

/** @param api Where the network's API answers `GET /files/<id>` with `{ "link": "https://…" }`. */
export function linkedFiles(api: string, token: string): Connector {
    return {
        async open(ref, { offset, signal }) {
            const { link } = ref as Reference;
            const response = await fetch(link, { signal, headers: { range: `bytes=${offset}-` } });
            // `status` tells the component whether to ask for a fresh link (401, 403, 404, 410) or to wait (429, 5xx).
            if (!response.ok || response.body === null)
                throw Object.assign(new Error("The file did not come"), { status: response.status });
            const length = response.headers.get("content-length");
            return {
                stream: streamOf(response.body),
                ...(length !== null && { size: Number(length) }),
                mimetype: response.headers.get("content-type") ?? undefined,
            };
        },
        async refresh(ref) {
            const { fileId } = ref as Reference;
            const response = await fetch(`${api}/files/${fileId}`, { headers: { authorization: `Bearer ${token}` } });
            if (!response.ok) throw Object.assign(new Error("No fresh link"), { status: response.status });
            const { link } = (await response.json()) as { link: string };
            return { fileId, link };
        },
    };
}

function streamOf(body: ReadableStream<Uint8Array>) {
    return {
        destroy: () => void body.cancel().catch(() => {}),
        [Symbol.asyncIterator]: () => body.values(),
    };
}
