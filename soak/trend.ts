import { median } from "../bench/support/statistics.ts";

/**
 * Whether a figure grows. The first half of a run is warming up: caches fill, tables are written for the first time. Each
 * sample then stands for the median of the minute before it, so that the saw-tooth of what is swept once a minute is
 * none any more; and over the second half the Theil–Sen slope is taken, the median of the slopes between all pairs, which a
 * few peaks do not move. The slope times the
 * half's length is the growth; it must stay below an absolute bound or a part of the figure's median, whichever is more.
 *
 * So a run finds what grows by more than the bound in half of its time: a slower leak needs a longer run.
 */
export interface Bound {
    readonly absolute: number;
    /** Of the median. */
    readonly relative: number;
}

export interface Point {
    readonly seconds: number;
    readonly value: number;
}

export interface Trend {
    readonly median: number;
    readonly largest: number;
    /** Over the second half. */
    readonly growth: number;
    readonly allowed: number;
    readonly grows: boolean;
}

/** Undefined where there is too little to judge by. */
export function trendOf(points: readonly Point[], { absolute, relative }: Bound): Trend | undefined {
    const judged = secondHalf(smoothed(points));
    const [first] = judged;
    const last = judged.at(-1);
    if (first === undefined || last === undefined || judged.length < FEWEST_SAMPLES) return undefined;
    const growth = theilSen(judged) * (last.seconds - first.seconds);
    const values = secondHalf(points).map(({ value }) => value);
    const middle = median(values);
    const allowed = Math.max(absolute, relative * middle);
    return { median: middle, largest: Math.max(...values), growth, allowed, grows: growth > allowed };
}

/** In the second half. */
export const FEWEST_SAMPLES = 20;

/** The median of the slopes between all pairs. */
export function theilSen(points: readonly Point[]): number {
    const slopes: number[] = [];
    for (const [index, from] of points.entries()) {
        for (const to of points.slice(index + 1))
            if (to.seconds > from.seconds) slopes.push((to.value - from.value) / (to.seconds - from.seconds));
    }
    return slopes.length === 0 ? 0 : median(slopes);
}

/** As often as a soak's component sweeps. */
const SWING_SECONDS = 60;

function smoothed(points: readonly Point[]): Point[] {
    return points.map(({ seconds }, index) => {
        const window = points.slice(0, index + 1).filter((point) => point.seconds > seconds - SWING_SECONDS);
        return { seconds, value: median(window.map(({ value }) => value)) };
    });
}

function secondHalf(points: readonly Point[]): readonly Point[] {
    const from = points[0]?.seconds ?? 0;
    const middle = (from + (points.at(-1)?.seconds ?? 0)) / 2;
    return points.filter(({ seconds }) => seconds >= middle);
}
