/** Sizes and times as people write and read them. */

const FACTORS: Readonly<Record<string, number>> = {
    "": 1,
    b: 1,
    kb: 1e3,
    mb: 1e6,
    gb: 1e9,
    kib: 2 ** 10,
    mib: 2 ** 20,
    gib: 2 ** 30,
};

/** `64MiB`, `1.5 GB` or `4096` in bytes; undefined for what is no size. */
export function parseBytes(text: string): number | undefined {
    const [, number, unit = ""] = /^(\d+(?:\.\d+)?) ?([a-z]*)$/i.exec(text.trim()) ?? [];
    const factor = FACTORS[unit.toLowerCase()];
    return number === undefined || factor === undefined ? undefined : Math.round(Number(number) * factor);
}

export function formatBytes(bytes: number): string {
    if (bytes < 1000) return `${bytes} B`;
    const units = ["kB", "MB", "GB", "TB"];
    let value = bytes / 1000;
    while (value >= 999.5 && units.length > 1) {
        value /= 1000;
        units.shift();
    }
    return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${units[0]}`;
}

/** The middle value; null when nothing was measured. */
export function median(values: readonly number[]): number | null {
    if (values.length === 0) return null;
    const sorted = values.toSorted((a, b) => a - b);
    const upper = sorted[Math.floor(sorted.length / 2)] ?? 0;
    const lower = sorted[Math.floor((sorted.length - 1) / 2)] ?? 0;
    return rounded((lower + upper) / 2);
}

export function rounded(value: number): number {
    return Math.round(value * 10) / 10;
}
