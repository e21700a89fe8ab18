import type { Deed } from "./deeds.ts";
import { READER } from "./doing.ts";
import { editIdIn, isEncryptedRoom, type PlannedMessage } from "./messages.ts";
import type { Content, RecordedEvent } from "./recorder/rooms.ts";

/** What was done to a message after it was said, as far as its room shows it: edits, and that it was taken back. */

/** What may or has to have taken effect. */
export interface ExpectedDeed {
    readonly deed: Deed;
    /** Its end was heard, it was found in a dead process' journal, or it is told until its end is heard. */
    readonly isCertain: boolean;
    /** What came of it, or the code of its refusal; undefined where nobody heard. */
    readonly end?: string | undefined;
    /** In ms since the epoch. */
    readonly endedAt?: number | undefined;
}

/** The content that an event gives to another one; undefined for one that stands for itself. */
export function editOf({ content }: RecordedEvent): { readonly target: string; readonly shown: Content } | undefined {
    const relation = content["m.relates_to"] as { rel_type?: string; event_id?: string } | undefined;
    if (relation?.rel_type !== "m.replace") return undefined;
    return { target: relation.event_id ?? "", shown: (content["m.new_content"] ?? {}) as Content };
}

/** What is wrong with a room's redactions, whosever. */
export function wrongRedactions(
    room: string,
    recorded: readonly RecordedEvent[],
    mayBeTakenBack: (event: RecordedEvent) => boolean,
): string[] {
    const found: string[] = [];
    const redacted = new Set<string>();
    for (const [index, { type, redacts = "", sender, event_id }] of recorded.entries()) {
        if (type !== "m.room.redaction") continue;
        const target = recorded.slice(0, index).find((event) => event.event_id === redacts);
        if (target === undefined) found.push(`${room}: ${event_id} redacts ${redacts}, which is not there`);
        else if (target.sender !== sender) found.push(`${room}: ${event_id} redacts another sender's ${redacts}`);
        else if (!mayBeTakenBack(target)) found.push(`${room}: ${redacts} was redacted, and nobody had asked for it`);
        if (redacted.has(redacts)) found.push(`${room}: ${redacts} was redacted twice`);
        redacted.add(redacts);
    }
    return found;
}

/**
 * What is wrong with the end of a message that may have been taken back.
 * @param events Of its room, opened, redactions among them.
 */
export function wrongTakingBack(
    { id }: PlannedMessage,
    event: RecordedEvent,
    events: readonly RecordedEvent[],
): string[] {
    const at = events.findIndex(({ redacts }) => redacts === event.event_id);
    const edits = events.filter((other) => editOf(other)?.target === event.event_id);
    const isRedacted = ({ event_id }: RecordedEvent): boolean => events.some(({ redacts }) => redacts === event_id);
    return edits.flatMap((edit) => [
        ...(events.indexOf(edit) > at ? [`${id} was edited by ${edit.event_id} after it was redacted`] : []),
        ...(isRedacted(edit) ? [] : [`${id} was redacted, and its edit ${edit.event_id} is still to be read`]),
    ]);
}

/** What is wrong with what a message says after it was edited. */
export function wrongEdits(
    { id, room, files }: PlannedMessage,
    event: RecordedEvent,
    events: readonly RecordedEvent[],
    deeds: readonly ExpectedDeed[],
): string[] {
    const edits = events.filter((other) => editOf(other)?.target === event.event_id);
    const said = [event.content, ...edits.map((edit) => editOf(edit)?.shown ?? {})].map(({ body }) => editIdIn(body));
    const inOrder = said.filter((edit, index) => edit !== said[index - 1]);
    const found: string[] = [];
    for (const [index, edit] of inOrder.entries())
        if (inOrder.indexOf(edit) < index) found.push(`${id} says again what ${edit ?? "it"} said, after another edit`);
    const expected = deeds.filter(({ deed }) => deed.does === "edit");
    for (const { deed, isCertain, end } of expected) {
        const isShown = said.includes(deed.id);
        // Nobody heard that of one which was journaled, and whose turn came when the keys were forgotten.
        const mayBeRefused = end === undefined && isEncryptedRoom(room) && files.length > 0;
        if (isCertain && !isShown && !mayBeRefused && (end === undefined || end === "edited"))
            found.push(`${id} was not edited by ${deed.id}`);
        if (isShown && (end === "MESSAGE_UNKNOWN" || end === "ENCRYPTION_KEYS_GONE"))
            found.push(`${id} was edited by ${deed.id}, which was refused`);
        const news = edits.filter(({ content }) => editIdIn(content["body"]) === deed.id && isNews(content));
        if (news.length > 1) found.push(`${id} was edited by ${deed.id} ${news.length} times`);
    }
    for (const edit of new Set(inOrder))
        if (edit !== undefined && !expected.some(({ deed }) => deed.id === edit))
            found.push(`${id} was edited by ${edit}, which is no edit of it`);
    return found;
}

/** Whether it tells whom it mentions: what the component says of its own accord mentions nobody. */
function isNews({ "m.mentions": mentions }: Content): boolean {
    return (mentions as { user_ids?: unknown[] } | undefined)?.user_ids?.includes(READER) === true;
}
