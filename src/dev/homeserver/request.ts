/** Reading a request: who makes it, its parameters, its body. What is wrong with them is thrown as a Matrix error. */
import type { FastifyRequest } from "fastify";
import type { Requester } from "./accounts.ts";
import { checkCanonical } from "./event.ts";
import { isObject, type JsonObject, textAt } from "./json.ts";
import { invalid, MatrixError } from "./matrix-error.ts";

/** What is known of a request before its endpoint sees it. */
export interface Exchange {
    readonly at: number;
    readonly path: string;
    readonly contentType: string | undefined;
    readonly requester: Requester | MatrixError;
    /** The connection is cut instead of answering. */
    dropAnswer: boolean;
}

export const EXCHANGE = "exchange";

export const exchangeOf = (request: FastifyRequest): Exchange => request.getDecorator<Exchange>(EXCHANGE);

/** The user a request is made for; the endpoint thereby demands authentication. */
export function requesterOf(request: FastifyRequest): Requester {
    const { requester } = exchangeOf(request);
    if (requester instanceof MatrixError) throw requester;
    return requester;
}

/** "Authorization: Bearer" or, deprecated in v1.11 and still in use, `access_token` in the query. */
export function accessTokenOf(request: FastifyRequest): string | undefined {
    const { authorization } = request.headers;
    if (authorization === undefined) return queryText(request, "access_token");
    return /^Bearer (\S+)$/u.exec(authorization)?.[1];
}

export function param(request: FastifyRequest, name: string): string {
    return textAt(request.params, name) ?? "";
}

export function queryText(request: FastifyRequest, name: string): string | undefined {
    const value = isObject(request.query) ? request.query[name] : undefined;
    const first: unknown = Array.isArray(value) ? value[0] : value;
    return typeof first === "string" ? first : undefined;
}

export function queryInteger(request: FastifyRequest, name: string): number | undefined {
    const text = queryText(request, name);
    if (text === undefined) return undefined;
    if (!/^-?\d{1,15}$/u.test(text)) throw invalid(`Query parameter '${name}' must be an integer`);
    return Number(text);
}

/** Only an appservice may say when its events happened (spec, timestamp massaging). */
export function massagedTimestamp(request: FastifyRequest): number | undefined {
    return requesterOf(request).appservice === undefined ? undefined : queryInteger(request, "ts");
}

export function jsonBody(request: FastifyRequest): JsonObject {
    if (request.body === undefined) throw new MatrixError(400, "M_NOT_JSON", "Content not JSON.");
    if (!isObject(request.body)) throw new MatrixError(400, "M_BAD_JSON", "Content must be a JSON object.");
    return request.body;
}

export function eventContent(request: FastifyRequest): JsonObject {
    const content = jsonBody(request);
    checkCanonical(content);
    return content;
}

/** For endpoints where an empty body means `{}`. */
export const optionalJsonBody = (request: FastifyRequest): JsonObject =>
    request.body === undefined ? {} : jsonBody(request);

export function textField(body: JsonObject, name: string): string {
    const value = body[name];
    if (typeof value === "string") return value;
    throw new MatrixError(
        400,
        value === undefined ? "M_MISSING_PARAM" : "M_INVALID_PARAM",
        `'${name}' must be a string`,
    );
}
