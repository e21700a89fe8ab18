import { randomBytes } from "node:crypto";

/** An opaque identifier of `bytes` random bytes, in characters that need no escaping in a path. */
export const randomId = (bytes: number): string => randomBytes(bytes).toString("base64url");
