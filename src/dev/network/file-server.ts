import { timingSafeEqual } from "node:crypto";
import { Readable } from "node:stream";
import { fastify, type FastifyReply, type FastifyRequest } from "fastify";
import { requestedRange } from "./byte-range.ts";
import { paced } from "./pace.ts";
import { generatedFile, type RemoteFile } from "./remote-file.ts";

/**
 * The file half of the sample remote network: an http server on loopback that hands out the files of `catalogue`
 * under `/files/`, and under `/generated/` a file of any size (`?size=` bytes, `?rate=` bytes per second).
 */
export interface FileServer {
    readonly url: string;
    readonly port: number;
    /** Ends transfers under way. */
    close(): Promise<void>;
}

export interface FileServerOptions {
    /** 0 takes any free port. */
    readonly port: number;
    /** By name, as it stands behind `/files/`. */
    readonly catalogue: ReadonlyMap<string, RemoteFile>;
}

interface FileParams {
    readonly name: string;
}

interface GeneratedQuery {
    readonly size: number;
    readonly rate?: number;
}

export async function startFileServer({ port, catalogue }: FileServerOptions): Promise<FileServer> {
    const app = fastify({ forceCloseConnections: true, exposeHeadRoutes: false });
    app.get<{ Params: FileParams }>("/files/:name", async (request, reply) => {
        const file = catalogue.get(request.params.name);
        return file === undefined ? reply.code(404).send({ error: "no such file" }) : answer(request, reply, file);
    });
    app.get<{ Params: FileParams; Querystring: GeneratedQuery }>(
        "/generated/:name",
        { schema: { querystring: GENERATED_QUERY } },
        async (request, reply) => {
            const { size, rate } = request.query;
            return answer(request, reply, generatedFile(request.params.name, size, { bytesPerSecond: rate }));
        },
    );
    const url = await app.listen({ host: "127.0.0.1", port });
    return { url, port: Number(new URL(url).port), close: () => app.close() };
}

const GENERATED_QUERY = {
    type: "object",
    required: ["size"],
    properties: {
        size: { type: "integer", minimum: 0, maximum: 2 ** 43 },
        rate: { type: "integer", minimum: 1 },
    },
} as const;

function answer(request: FastifyRequest, reply: FastifyReply, file: RemoteFile): FastifyReply {
    if (file.token !== undefined && !isAuthorized(request.headers.authorization, file.token)) {
        return reply.code(401).header("www-authenticate", "Bearer").send({ error: "a bearer token is needed" });
    }
    const { range: header, "if-range": ifRange } = request.headers;
    const range = requestedRange({ range: header, ifRange: one(ifRange) }, file);
    void reply.header("accept-ranges", "bytes").header("etag", file.etag);
    if (range === "unsatisfiable") return reply.code(416).header("content-range", `bytes */${file.size}`).send();
    const { start, end } = range === "whole" ? { start: 0, end: file.size } : range;
    if (range !== "whole") void reply.code(206).header("content-range", `bytes ${start}-${end - 1}/${file.size}`);
    return reply
        .type(file.mimetype)
        .header("content-length", end - start)
        .send(Readable.from(paced(file.read({ start, end }), file.bytesPerSecond), { objectMode: false }));
}

function isAuthorized(header: string | undefined, token: string): boolean {
    const given = Buffer.from(header ?? "");
    const wanted = Buffer.from(`Bearer ${token}`);
    return given.length === wanted.length && timingSafeEqual(given, wanted);
}

function one(header: string | string[] | undefined): string | undefined {
    return Array.isArray(header) ? header[0] : header;
}
