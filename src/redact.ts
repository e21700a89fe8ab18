/**
 * The one place that decides what of a secret may be seen. Logs, errors, metrics and job listings pass what could
 * carry a token, a presigned query or a password through here.
 */

/** A URL as it may be shown: without user, password, query and fragment. What is no URL shows as `[not a URL]`. */
export function redactUrl(url: string | URL): string {
    let parsed: URL;
    try {
        parsed = new URL(url);
    } catch {
        return "[not a URL]";
    }
    const query = parsed.search === "" ? "" : "?…";
    return `${parsed.protocol}//${parsed.host}${parsed.pathname}${query}`;
}

const SECRET_PARAMETERS =
    /\b(access_token|as_token|hs_token|token|password|signature|sig|credential|policy|awsaccesskeyid|googleaccessid)(=|%3D)[^&\s]+/gi;

/** An error's message with every URL in it made safe to show. */
export function redactText(text: string): string {
    return (
        text
            // As far as a URL can reach: a query may hold quotes and brackets before its signature.
            .replace(/\bhttps?:\/\/[^\s"<>]+/gi, (url) => redactUrl(url))
            .replace(/\b(Bearer|Basic)\s+[\w.~+/=-]+/gi, "$1 …")
            // Also of a URL that stands there in part or percent-encoded. `sig` is Azure's, the others are S3's and its like.
            .replace(SECRET_PARAMETERS, "$1$2…")
    );
}
