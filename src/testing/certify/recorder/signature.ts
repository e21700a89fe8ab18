import { createHmac, timingSafeEqual } from "node:crypto";

/**
 * A request that a storage takes because its query is signed: by whoever shares its secret, for one method, one key and a
 * time. The homeserver signs, the storage checks, and the component carries it without knowing what it says.
 */
const LIFETIME_MS = 24 * 3600_000;

/** The path and query that allow `method` on `key`. */
export function signedPath(secret: string, method: string, key: string, now = Date.now()): string {
    const expires = String(now + LIFETIME_MS);
    return `/${key}?expires=${expires}&signature=${signatureOf(secret, method, key, expires)}`;
}

export function isSigned(secret: string, method: string, { pathname, searchParams }: URL, now = Date.now()): boolean {
    const expires = searchParams.get("expires") ?? "";
    const given = Buffer.from(searchParams.get("signature") ?? "");
    const right = Buffer.from(signatureOf(secret, method, pathname.slice(1), expires));
    return given.length === right.length && timingSafeEqual(given, right) && Number(expires) > now;
}

function signatureOf(secret: string, method: string, key: string, expires: string): string {
    return createHmac("sha256", secret).update(`${method}\n${key}\n${expires}`).digest("hex");
}
