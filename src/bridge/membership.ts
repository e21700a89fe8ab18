import { MediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { mayPass } from "../matrix/answer.ts";
import type { ActingUsers } from "../matrix/client.ts";
import { inviteUser, joinRoom } from "../matrix/room-endpoints.ts";
import { loggable } from "../redact.ts";

/**
 * Ways into a room for a sender that the homeserver has just turned away, from the gentlest on. The SDK's own way
 * first, because it keeps its caches right; but those caches believe that a ghost which was kicked is still there,
 * and matrix-bot-sdk does not invite, so a plain join and an invitation by the bot come after it.
 */
export const WAYS_INTO_A_ROOM = 2;

/**
 * Tries one way (0 is the first). Never rejects: whether it helped, the next sending tells. Resolves with what passes when
 * that has barred the way: then it is to be tried again, or an outage would refuse a message for good.
 */
export async function enterRoom(
    users: ActingUsers,
    { sender, roomId }: { sender: string; roomId: string },
    way: number,
    logger: Logger,
    signal: AbortSignal,
): Promise<MediaError | undefined> {
    try {
        const user = users.get(sender);
        await user.ensureRegistered();
        if (way === 0) {
            await user.join(roomId);
            return undefined;
        }
        const join = (): Promise<void> => joinRoom(user.access(), roomId, signal);
        await join().catch(async (error: unknown) => {
            const bot = users.bot();
            if (bot === undefined || bot.userId === user.userId) throw error;
            await inviteUser(bot.access(), roomId, user.userId, signal);
            await join();
        });
    } catch (error) {
        const details = { sender, roomId, way, error: loggable(error) };
        logger.debug("A sender could not be brought into its room", details);
        if (error instanceof MediaError && mayPass(error)) return error;
    }
    return undefined;
}
