import type { Measurement } from "../measurement.ts";
import { raceAtOnce } from "./race-at-once.ts";
import { raceBehind } from "./race-behind.ts";
import { raceBurst } from "./race-burst.ts";
import { raceMixed } from "./race-mixed.ts";
import { raceSize } from "./race-size.ts";
import { raceSynapse } from "./race-synapse.ts";

/** This project beside the field. */
export const RACE: readonly Measurement[] = [raceSize, raceBehind, raceAtOnce, raceBurst, raceMixed, raceSynapse];
