import { fileURLToPath } from "node:url";
import { diskFile, type RemoteFile } from "./remote-file.ts";
import type { AttachmentKind } from "./remote-message.ts";

/** The files in `src/dev/sample-media`, and how the sample network hands them out. */
export interface SampleFile {
    readonly kind: AttachmentKind;
    readonly width?: number;
    readonly height?: number;
    readonly durationMs?: number;
    readonly bytesPerSecond?: number;
    /** Whether the network asks for its bearer token. */
    readonly guarded?: boolean;
}

const PHOTO_RATE = 256 * 1024;

export const SAMPLE_FILES = {
    "lake-at-sunset.jpg": { kind: "image", width: 1280, height: 853, bytesPerSecond: PHOTO_RATE },
    "moon-over-the-bay.jpg": { kind: "image", width: 1280, height: 853, bytesPerSecond: PHOTO_RATE, guarded: true },
    "fruit-on-the-table.jpg": { kind: "image", width: 1100, height: 760, bytesPerSecond: PHOTO_RATE },
    "tide-table.png": { kind: "image", width: 900, height: 540 },
    "floor-plan.png": { kind: "image", width: 1000, height: 700, guarded: true },
    "crossing-poster.jpg": { kind: "image", width: 480, height: 270 },
    "cat-sticker.webp": { kind: "sticker", width: 512, height: 512 },
    "cat-blinks.gif": { kind: "image", width: 240, height: 240 },
    "voice-message.ogg": { kind: "voice", durationMs: 14_141, bytesPerSecond: PHOTO_RATE },
    "packing-list.pdf": { kind: "document", guarded: true },
    "sun-goes-down.mp4": { kind: "video", width: 480, height: 272, durationMs: 4_000 },
} as const satisfies Readonly<Record<string, SampleFile>>;

export type SampleName = keyof typeof SAMPLE_FILES;

const FOLDER = new URL("../sample-media/", import.meta.url);

/** The sample files by name; guarded ones want `token`. */
export async function sampleCatalogue(token: string): Promise<Map<string, RemoteFile>> {
    const catalogue = new Map<string, RemoteFile>();
    for (const [name, { bytesPerSecond, guarded }] of Object.entries<SampleFile>(SAMPLE_FILES)) {
        const path = fileURLToPath(new URL(name, FOLDER));
        const file = await diskFile(path, { bytesPerSecond, token: guarded === true ? token : undefined });
        catalogue.set(name, file);
    }
    return catalogue;
}
