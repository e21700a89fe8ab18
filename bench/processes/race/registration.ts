import type { IAppserviceRegistration } from "matrix-bot-sdk";

/** What the SDKs want to know of their appservice. */
export function registrationFor(accessToken: string): IAppserviceRegistration & { id: string; url: string } {
    return {
        id: "race",
        url: "http://127.0.0.1:9",
        as_token: accessToken,
        hs_token: "hs-token-of-the-race",
        sender_localpart: "bot",
        namespaces: { users: [{ exclusive: true, regex: "@.*" }], rooms: [], aliases: [] },
    };
}
