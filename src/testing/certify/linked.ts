import { Readable } from "node:stream";
import type { Connector } from "../../uploads/sources/source.ts";

/** The network's connector, in the process that is killed: a file by its name and a link, which runs out. */
export function networkConnector(url: string): Connector {
    const asked = async (path: string, signal?: AbortSignal): Promise<Response> => {
        const response = await fetch(`${url}${path}`, signal === undefined ? {} : { signal });
        if (response.ok) return response;
        await response.body?.cancel();
        throw Object.assign(new Error(`HTTP ${response.status}`), { status: response.status });
    };
    return {
        async open(ref, { signal }) {
            const { name, link } = ref as { name: string; link: string };
            const { body, headers } = await asked(`/remote/linked/${name}?link=${link}`, signal);
            if (body === null) throw new Error("no body");
            const stream = Readable.fromWeb(body);
            return { stream, size: Number(headers.get("content-length")) };
        },
        async refresh(ref) {
            const { name } = ref as { name: string };
            const { link } = (await (await asked(`/links/${name}`)).json()) as { link: string };
            return { name, link };
        },
    };
}
