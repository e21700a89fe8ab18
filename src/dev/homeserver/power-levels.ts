/** Who may do what in a room (spec, `m.room.power_levels`, with the spec's defaults for what a room leaves out). */
import { isObject, type JsonObject } from "./json.ts";
import { forbidden } from "./matrix-error.ts";
import type { Room } from "./room.ts";

type Action = "invite" | "kick" | "redact";

const ACTION_DEFAULTS: Readonly<Record<Action, number>> = { invite: 0, kick: 50, redact: 50 };

const levels = (room: Room): JsonObject => room.state("m.room.power_levels")?.content ?? {};

function numberAt(object: unknown, key: string): number | undefined {
    const value = isObject(object) ? object[key] : undefined;
    return typeof value === "number" ? value : undefined;
}

export function powerOf(room: Room, userId: string): number {
    return numberAt(levels(room)["users"], userId) ?? numberAt(levels(room), "users_default") ?? 0;
}

export function may(room: Room, userId: string, action: Action): boolean {
    return powerOf(room, userId) >= (numberAt(levels(room), action) ?? ACTION_DEFAULTS[action]);
}

export function checkMay(room: Room, userId: string, action: Action): void {
    if (!may(room, userId, action)) throw forbidden(`You don't have permission to ${action}`);
}

export function checkMaySend(room: Room, userId: string, type: string, isState: boolean): void {
    const fallback = isState
        ? (numberAt(levels(room), "state_default") ?? 50)
        : (numberAt(levels(room), "events_default") ?? 0);
    const needed = numberAt(levels(room)["events"], type) ?? fallback;
    if (powerOf(room, userId) < needed) {
        throw forbidden(
            `You don't have permission to post that to the room. user_level (${powerOf(room, userId)}) < send_level (${needed})`,
        );
    }
}
