/** What LevelDB compresses its blocks with (google/snappy, format_description.txt); undefined where it makes no sense. */
const LARGEST = 64 * 2 ** 20;

export function decompressed(from: Buffer): Buffer | undefined {
    let at = 0;
    let [length, scale] = [0, 1];
    for (let byte = 0x80; byte >= 0x80; scale *= 0x80) {
        if (at >= from.length || scale > 2 ** 28) return undefined;
        byte = from[at++] ?? 0;
        length += (byte & 0x7f) * scale;
    }
    if (length > LARGEST) return undefined;
    const out = Buffer.alloc(length);
    let end = 0;
    while (at < from.length) {
        const tag = from[at++] ?? 0;
        const kind = tag & 3;
        if (kind === 0) {
            const extra = Math.max(0, (tag >>> 2) - 59);
            if (at + extra > from.length) return undefined;
            const count = 1 + (extra === 0 ? tag >>> 2 : from.readUIntLE(at, extra));
            at += extra;
            if (at + count > from.length || end + count > length) return undefined;
            from.copy(out, end, at, at + count);
            [at, end] = [at + count, end + count];
            continue;
        }
        const width = kind === 1 ? 1 : kind === 2 ? 2 : 4;
        if (at + width > from.length) return undefined;
        const count = kind === 1 ? 4 + ((tag >>> 2) & 7) : 1 + (tag >>> 2);
        const back = kind === 1 ? ((tag >>> 5) << 8) | (from[at] ?? 0) : from.readUIntLE(at, width);
        at += width;
        if (back === 0 || back > end || end + count > length) return undefined;
        // Byte by byte: what is copied may reach into itself.
        for (let copied = 0; copied < count; copied++, end++) out[end] = out[end - back] ?? 0;
    }
    return end === length ? out : undefined;
}
