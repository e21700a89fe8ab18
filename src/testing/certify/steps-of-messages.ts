import type { MessageRecord } from "../../bridge/records.ts";
import type { Deed } from "./deeds.ts";
import { isJournaled } from "./evidence.ts";
import { bytesOf, roomsIn } from "./messages.ts";
import type { Death, Step } from "./step.ts";

/** The steps of messages, of what is done to them, and of pictures. */

const records = ({ journal }: Death): MessageRecord[] => [...journal.messages.values()];
/** An edit or a redaction that the component makes of its own accord. */
const isOwn = ({ planned, deeds }: Death, { id }: MessageRecord): boolean => !planned.has(id) && !deeds.has(id);
const wasSent = ({ earlier }: Death, { id }: MessageRecord): boolean => earlier.messages.get(id)?.state === "sent";

/** The ids of what this process brought into its room. */
export function brought(death: Death): Set<string> {
    const { recorder, planned, since } = death;
    const events = roomsIn([...planned.values()]).flatMap((room) => recorder.rooms.events(room));
    return new Set(
        events.filter(({ origin_server_ts }) => origin_server_ts >= since).map(({ transactionId }) => transactionId),
    );
}

/** It is in its room, and its journal does not know yet; or knows, and nobody was told. */
function accepted(name: string, isOne: (death: Death, record: MessageRecord) => boolean): Step {
    return {
        name,
        before: (death) => {
            const ids = brought(death);
            return records(death).some(
                (record) => isOne(death, record) && record.state === "queued" && ids.has(record.transactionId),
            );
        },
        after: (death) =>
            records(death).some(
                (record) =>
                    isOne(death, record) &&
                    record.state === "sent" &&
                    !wasSent(death, record) &&
                    isUnheard(death, record),
            ),
    };
}

function isUnheard({ told }: Death, { id }: MessageRecord): boolean {
    const word = told.get(id);
    return word === undefined || word === "said" || word === "calling";
}

/** Its call has been made, and has no end. */
export function calling<Does extends Deed["does"]>(
    { deeds, told }: Death,
    does: Does,
): Extract<Deed, { does: Does }>[] {
    return [...deeds.values()].filter(
        (deed): deed is Extract<Deed, { does: Does }> => deed.does === does && told.get(deed.id) === "calling",
    );
}

export const MESSAGE_STEPS: readonly Step[] = [
    {
        name: "message journaled",
        before: ({ told, journal, planned }) =>
            [...told.keys()].some((id) => planned.has(id) && !journal.messages.has(id)),
        after: (death) => {
            const { earlier, journal } = death;
            const ids = brought(death);
            return records(death).some(
                (record) =>
                    record.state === "queued" &&
                    death.planned.has(record.id) &&
                    !earlier.messages.has(record.id) &&
                    !ids.has(record.transactionId) &&
                    record.jobs.every((job) => journal.jobs.get(job)?.state === "unreserved"),
            );
        },
    },
    {
        name: "bytes handed over",
        before: ({ journal }) => journal.spooled.some((name) => !journal.jobs.has(name.slice(0, 36))),
        after: ({ journal, earlier }) =>
            [...journal.jobs.values()].some(
                ({ id, source, state }) => source.kind === "spool" && state === "unreserved" && !earlier.jobs.has(id),
            ),
    },
    accepted("event accepted, release", ({ planned }, { id }) => planned.has(id)),
    {
        name: "notice journaled",
        before: ({ journal, earlier }) =>
            [...journal.marked].some((id) => journal.messages.get(id)?.state === "sent" && !earlier.marked.has(id)),
        after: (death) => {
            const ids = brought(death);
            return records(death).some(
                (record) =>
                    isOwn(death, record) &&
                    record.redacts === undefined &&
                    record.state === "queued" &&
                    !ids.has(record.transactionId),
            );
        },
    },
    accepted("notice accepted", (death, record) => isOwn(death, record) && record.redacts === undefined),
    {
        name: "edit() journaled",
        before: (death) => calling(death, "edit").some(({ id }) => !death.journal.messages.has(id)),
        after: (death) => {
            const ids = brought(death);
            return records(death).some(
                ({ edits, state, transactionId }) =>
                    edits !== undefined && state === "queued" && !ids.has(transactionId),
            );
        },
    },
    accepted("edit() accepted", (_death, { edits }) => edits !== undefined),
    {
        name: "taking back journaled",
        before: (death) => calling(death, "redact").some((deed) => !isJournaled(deed, death.journal, death.earlier)),
        after: (death) => calling(death, "redact").some((deed) => isJournaled(deed, death.journal, death.earlier)),
    },
    {
        name: "redaction journaled",
        before: (death) =>
            records(death).some(
                ({ state, redact, redacted }) => state === "sent" && redact === true && redacted !== true,
            ),
        after: (death) => {
            const ids = brought(death);
            return records(death).some(
                ({ redacts, state, transactionId }) =>
                    redacts !== undefined && state === "queued" && !ids.has(transactionId),
            );
        },
    },
    accepted("redaction accepted", (_death, { redacts }) => redacts !== undefined),
    {
        name: "picture journaled",
        before: (death) =>
            calling(death, "picture").some(
                (deed) => !isJournaled(deed, death.journal, death.earlier) && !isSet(death, deed),
            ),
        after: (death) => calling(death, "picture").some((deed) => isJournaled(deed, death.journal, death.earlier)),
    },
    {
        name: "picture set",
        before: ({ journal, requests }) =>
            [...journal.pictures.keys()].some((user) =>
                requests.some(
                    ({ kind, path, status }) =>
                        kind === "profile" && status === 200 && path.includes(encodeURIComponent(user)),
                ),
            ),
        after: (death) =>
            calling(death, "picture").some((deed) => !death.journal.pictures.has(deed.user) && isSet(death, deed)),
    },
];

function isSet({ recorder }: Death, { user, file }: Extract<Deed, { does: "picture" }>): boolean {
    const content = recorder.media.find(recorder.profiles.of(user).at(-1))?.content;
    return content?.equals(bytesOf(file.name)) === true;
}
