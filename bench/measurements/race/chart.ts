import type { Figure, Point, Unit } from "../../support/result.ts";
import { ALL, type Contestant, CONTESTANTS } from "./contestants.ts";

interface About {
    readonly name: string;
    readonly title: string;
    /** What grows. */
    readonly over: string;
    readonly unit: Unit;
    /** @default true */
    readonly logarithmic?: boolean;
    /** @default "lines" */
    readonly shape?: Figure["shape"];
}

/** Collects one measure of all contestants, run after run. */
export class Chart {
    readonly #about: About;
    readonly #points = new Map<Contestant, Map<string, { values: number[]; note?: string }>>();

    constructor(about: About) {
        this.#about = about;
    }

    add(contestant: Contestant, x: string, value: number): void {
        this.#at(contestant, x).values.push(value);
    }

    /** A run's value that is missing because the contestant failed. */
    failed(contestant: Contestant, x: string, run: number): void {
        const point = this.#at(contestant, x);
        point.note = "failed";
        while (point.values.length <= run) point.values.push(Number.NaN);
    }

    /** Tells why there is no value. */
    without(contestant: Contestant, x: string, note: string): void {
        this.#at(contestant, x).note = note;
    }

    /** One value for each run. */
    values(contestant: Contestant, x: string): readonly number[] {
        return this.#points.get(contestant)?.get(x)?.values ?? [];
    }

    /** Run by run, the one's value by the other's, which met the same machine. */
    ratios(one: Contestant, other: Contestant, x: string): readonly number[] {
        const others = this.values(other, x);
        return this.values(one, x).map((value, run) => value / (others[run] ?? Number.NaN));
    }

    figure(): Figure {
        const { logarithmic = true, shape = "lines", ...about } = this.#about;
        const series = ALL.filter((contestant) => this.#points.has(contestant)).map((contestant) => ({
            name: CONTESTANTS[contestant],
            points: [...(this.#points.get(contestant) ?? [])].map(([x, { values, note }]): Point => {
                return { x, values, ...(note !== undefined && { note }) };
            }),
        }));
        return { ...about, logarithmic, shape, series };
    }

    #at(contestant: Contestant, x: string): { values: number[]; note?: string } {
        const points = this.#points.get(contestant) ?? new Map<string, { values: number[] }>();
        this.#points.set(contestant, points);
        const point = points.get(x) ?? { values: [] };
        points.set(x, point);
        return point;
    }
}
