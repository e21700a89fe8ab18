import type { Measurement } from "../measurement.ts";
import { raceSize } from "./race-size.ts";

/** This project beside the field. */
export const RACE: readonly Measurement[] = [raceSize];
