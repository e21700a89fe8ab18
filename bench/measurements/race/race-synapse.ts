import { roomWithGhost } from "../../support/rooms.ts";
import { openSynapse } from "../../support/synapse.ts";
import type { Measurement } from "../measurement.ts";
import { MEBIBYTE } from "../measurement.ts";
import { mixed } from "./mixed.ts";

const RATE = 20_000_000;
const KINDS = [
    { part: 0.05, bytes: 10 * MEBIBYTE },
    { part: 0.25, bytes: 300_000 },
] as const;

/** The same against Synapse, through a witness of its own; nothing where Synapse is not installed. */
export const raceSynapse: Measurement = {
    name: "race-synapse",
    about: "The race: mixed load over 10 rooms of a Synapse, files of 300 kB and 10 MB",
    atMostRuns: 3,
    async measure(context) {
        const synapse = await openSynapse(context);
        if (synapse === undefined) return [];
        const tap = context.start("race/tap");
        const { accessToken } = synapse;
        const rooms = [];
        for (let i = 0; i < 10; i++)
            rooms.push(await roomWithGhost({ ...synapse, ghost: synapse.ghostNamed(`race_${i}`) }));
        const remoteUrl = await context.start("remote").call("url");
        const track = {
            homeserverUrl: await tap.call("start", synapse.homeserverUrl),
            accessToken,
            serverName: synapse.ghost.slice(synapse.ghost.indexOf(":") + 1),
            seen: () => tap.call("seen"),
        };
        const seconds = context.quick ? 4 : 20;
        return mixed(context, {
            name: "synapse",
            track,
            urlOf: (size) => `${remoteUrl}/file?size=${size}&etag=1&rate=${RATE}`,
            mixes: [{ perSecond: 5, seconds, kinds: KINDS, rooms }],
        });
    },
};
