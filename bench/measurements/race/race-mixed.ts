import type { Measurement } from "../measurement.ts";
import { MEBIBYTE } from "../measurement.ts";
import { mixed } from "./mixed.ts";
import { bareTrack, room } from "./track.ts";

/** What a file server gives one download. */
const RATE = 20_000_000;
const KINDS = [
    { part: 0.02, bytes: 50 * MEBIBYTE },
    { part: 0.08, bytes: 5 * MEBIBYTE },
    { part: 0.2, bytes: 300_000 },
] as const;

/** 20 rooms; seven of ten messages are texts, the rest photos, short videos and now and then something of 50 MB. */
export const raceMixed: Measurement = {
    name: "race-mixed",
    about: "The race: mixed load over 20 rooms, files of 300 kB to 50 MB from a source of 20 MB/s a download",
    async measure(context) {
        const track = await bareTrack(context);
        const rooms = Array.from({ length: 20 }, (_, i) => room(i));
        const seconds = context.quick ? 4 : 16;
        const mixes = [20, 40].map((perSecond) => ({ perSecond, seconds, kinds: KINDS, rooms }));
        return mixed(context, { name: "mixed", track, urlOf: (size) => track.urlOf(size, RATE), mixes });
    },
};
