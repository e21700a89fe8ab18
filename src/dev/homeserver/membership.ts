/** How users come into rooms and leave them (spec, authorization rules for `m.room.member`; no bans, no knocks). */
import type { Accounts } from "./accounts.ts";
import type { JsonObject } from "./json.ts";
import { forbidden, MatrixError } from "./matrix-error.ts";
import { checkMay, powerOf } from "./power-levels.ts";
import type { Room } from "./room.ts";
import type { Rooms } from "./rooms.ts";

export class Membership {
    readonly #rooms: Rooms;
    readonly #accounts: Accounts;

    constructor(rooms: Rooms, accounts: Accounts) {
        this.#rooms = rooms;
        this.#accounts = accounts;
    }

    async join(userId: string, roomId: string): Promise<void> {
        const room = this.#rooms.find(roomId);
        if (room === undefined) throw new MatrixError(404, "M_UNKNOWN", `No known servers in room ${roomId}`);
        // Joining twice is no error and leaves no second event.
        if (room.joined.has(userId)) return;
        const open = room.state("m.room.join_rules")?.content["join_rule"] === "public";
        if (!open && room.membership(userId) !== "invite") throw forbidden("You are not invited to this room.");
        await this.write(room.id, userId, userId, { membership: "join" });
    }

    async invite(userId: string, roomId: string, target: string, more: JsonObject = {}): Promise<void> {
        const room = this.#rooms.joinedBy(userId, roomId);
        checkMay(room, userId, "invite");
        if (room.joined.has(target)) throw forbidden(`${target} is already in the room.`);
        await this.write(roomId, userId, target, { membership: "invite", ...more });
    }

    async kick(userId: string, roomId: string, target: string, reason: unknown): Promise<void> {
        const room = this.#rooms.joinedBy(userId, roomId);
        if (!inOrInvited(room, target)) throw forbidden("The target user is not in the room");
        checkMay(room, userId, "kick");
        if (powerOf(room, target) >= powerOf(room, userId)) throw forbidden(`You cannot kick user ${target}.`);
        await this.write(roomId, userId, target, { membership: "leave", ...(reason === undefined ? {} : { reason }) });
    }

    async leave(userId: string, roomId: string): Promise<void> {
        const room = this.#rooms.find(roomId);
        // Leaving twice is no error and leaves no second event.
        if (room?.membership(userId) === "leave") return;
        if (room === undefined || !inOrInvited(room, userId)) throw forbidden(`User ${userId} not in room ${roomId}`);
        await this.write(roomId, userId, userId, { membership: "leave" });
    }

    /** A member's name or picture changed: every room the user is in is told (spec, "Events on Change of Profile Information"). */
    async announceProfile(userId: string): Promise<void> {
        const announcements = this.#rooms
            .joinedRooms(userId)
            .map((roomId) => this.write(roomId, userId, userId, { membership: "join" }));
        await Promise.all(announcements);
    }

    /** Writes a membership without asking whether it is allowed. */
    async write(roomId: string, sender: string, target: string, content: JsonObject): Promise<void> {
        const shown = content["membership"] === "leave" ? {} : this.#accounts.profileIfKnown(target);
        await this.#rooms.append({
            room_id: roomId,
            type: "m.room.member",
            sender,
            state_key: target,
            content: { ...shown, ...content },
        });
    }
}

function inOrInvited(room: Room, userId: string): boolean {
    const membership = room.membership(userId);
    return membership === "join" || membership === "invite";
}
