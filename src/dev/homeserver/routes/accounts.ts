/** Registration of ghosts, whoami, profiles. */
import type { FastifyInstance } from "fastify";
import { forbidden, MatrixError, notFound } from "../matrix-error.ts";
import { accessTokenOf, jsonBody, param, requesterOf, textField } from "../request.ts";
import type { Services } from "../services.ts";

const PROFILE_FIELDS = ["displayname", "avatar_url"] as const;

export function accountRoutes(app: FastifyInstance, { accounts, membership }: Services): void {
    app.post("/register", async (request) => {
        const body = jsonBody(request);
        if (body["type"] !== "m.login.application_service") {
            throw new MatrixError(403, "M_FORBIDDEN", "Registration has been disabled");
        }
        const userId = await accounts.registerGhost(accessTokenOf(request), textField(body, "username"));
        if (body["inhibit_login"] === true) return { user_id: userId };
        return { user_id: userId, access_token: await accounts.accessToken(userId), device_id: "GHOST" };
    });

    app.get("/account/whoami", (request) => {
        const { userId, appservice } = requesterOf(request);
        return { user_id: userId, is_guest: false, ...(appservice === undefined ? { device_id: "DEVICE" } : {}) };
    });

    // Profiles are public: no authentication.
    app.get("/profile/:userId", (request) => accounts.profile(param(request, "userId")));

    for (const field of PROFILE_FIELDS) {
        app.get(`/profile/:userId/${field}`, (request) => {
            const value = accounts.profile(param(request, "userId"))[field];
            if (value === undefined) throw notFound("Profile was not found");
            return { [field]: value };
        });

        app.put(`/profile/:userId/${field}`, async (request) => {
            const { userId } = requesterOf(request);
            if (param(request, "userId") !== userId) throw forbidden("Cannot set another user's profile");
            await accounts.changeProfile(userId, { [field]: textField(jsonBody(request), field) });
            await membership.announceProfile(userId);
            return {};
        });
    }
}
