import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import { MediaError } from "../errors.ts";
import type { JobState } from "../uploads/job.ts";

/** matrix-appservice-bridge's `PrometheusMetrics`, as far as it is used; it prefixes every name with `bridge_`. */
export interface BridgeMetricsLike {
    addCounter(options: { name: string; help: string; labels: string[] }): unknown;
    addGauge(options: { name: string; help: string; labels: string[]; refresh: (gauge: GaugeLike) => void }): unknown;
    addTimer(options: { name: string; help: string; labels: string[] }): unknown;
}

/** Anything that has a prom-client registry's `registerMetric`. */
export interface RegistryLike {
    registerMetric(metric: never): void;
}

interface GaugeLike {
    set(value: number): void;
}
interface CounterLike {
    inc(labels: Record<string, string>, value?: number): void;
}
interface HistogramLike {
    observe(labels: Record<string, string>, value: number): void;
}

/** What the gauges read when they are scraped. */
export interface Levels {
    readonly pendingMessages: () => number;
    readonly pendingJobs: () => number;
    readonly activeTransfers: () => number;
    readonly reservations: () => number;
    readonly spoolBytes: () => number;
}

const GAUGES: Readonly<Record<keyof Levels, { name: string; help: string }>> = {
    pendingMessages: { name: "pending_messages", help: "Messages journaled and not yet accepted by the homeserver" },
    pendingJobs: { name: "pending_jobs", help: "Upload jobs that are ready or under way" },
    activeTransfers: { name: "active_transfers", help: "Transfers under way" },
    reservations: { name: "reservations", help: "Unused media addresses kept ahead" },
    spoolBytes: { name: "spool_bytes", help: "Bytes of spooled files on disk" },
};
const FINISHED = { name: "jobs_finished_total", help: "Upload jobs that ended, by outcome" };
const BYTES = { name: "uploaded_bytes_total", help: "Bytes of finished uploads" };
const SENDS = { name: "messages_total", help: "Messages that ended, by outcome" };
const SEND_TIME = { name: "send_seconds", help: "From send() until the homeserver accepted the event" };

interface Instruments {
    readonly finished: CounterLike;
    readonly bytes: CounterLike;
    readonly messages: CounterLike;
    readonly sendTime: HistogramLike;
}

/** The component's metrics, `bridge_media_*`; nothing is counted until a registry is given. */
export class Metrics {
    readonly #levels: Levels;
    readonly #instruments: Instruments[] = [];

    constructor(levels: Levels) {
        this.#levels = levels;
    }

    /** Throws INVALID_ARGUMENT for what is neither. */
    register(registry: RegistryLike | BridgeMetricsLike): void {
        const { addCounter, registerMetric }: Partial<RegistryLike & BridgeMetricsLike> = registry ?? {};
        if (typeof addCounter !== "function" && typeof registerMetric !== "function") {
            const detail = "must be a prom-client registry, or have addCounter, addGauge and addTimer";
            throw new MediaError("INVALID_ARGUMENT", { field: "registry", detail });
        }
        this.#instruments.push("addCounter" in registry ? this.#inBridge(registry) : this.#inRegistry(registry));
    }

    jobEnded(state: JobState, bytes: number): void {
        for (const { finished, bytes: total } of this.#instruments) {
            finished.inc({ outcome: state });
            if (state === "done") total.inc({}, bytes);
        }
    }

    messageEnded(outcome: "sent" | "refused"): void {
        for (const { messages } of this.#instruments) messages.inc({ outcome });
    }

    sendTook(milliseconds: number, kind: "text" | "media"): void {
        for (const { sendTime } of this.#instruments) sendTime.observe({ kind }, milliseconds / 1000);
    }

    #inRegistry(registry: RegistryLike): Instruments {
        const registers = [registry as unknown as Registry];
        const named = <T extends { name: string }>(metric: T) => ({
            ...metric,
            name: `bridge_media_${metric.name}`,
            registers,
        });
        for (const key of Object.keys(GAUGES) as (keyof Levels)[]) {
            const read = this.#levels[key];
            const gauge: Gauge = new Gauge({ ...named(GAUGES[key]), collect: () => gauge.set(read()) });
        }
        return {
            finished: new Counter({ ...named(FINISHED), labelNames: ["outcome"] }),
            bytes: new Counter(named(BYTES)),
            messages: new Counter({ ...named(SENDS), labelNames: ["outcome"] }),
            sendTime: new Histogram({ ...named(SEND_TIME), labelNames: ["kind"] }),
        };
    }

    #inBridge(metrics: BridgeMetricsLike): Instruments {
        const named = <T extends { name: string }>(metric: T) => ({ ...metric, name: `media_${metric.name}` });
        for (const key of Object.keys(GAUGES) as (keyof Levels)[]) {
            const read = this.#levels[key];
            metrics.addGauge({ ...named(GAUGES[key]), labels: [], refresh: (gauge) => gauge.set(read()) });
        }
        return {
            finished: metrics.addCounter({ ...named(FINISHED), labels: ["outcome"] }) as CounterLike,
            bytes: metrics.addCounter({ ...named(BYTES), labels: [] }) as CounterLike,
            messages: metrics.addCounter({ ...named(SENDS), labels: ["outcome"] }) as CounterLike,
            sendTime: metrics.addTimer({ ...named(SEND_TIME), labels: ["kind"] }) as HistogramLike,
        };
    }
}
