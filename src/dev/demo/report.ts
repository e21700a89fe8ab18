import type { Delivery } from "./deliver.ts";
import { attachedFiles } from "./outgoing.ts";
import { formatBytes, median, rounded } from "./units.ts";
import type { Findings } from "./verify.ts";

/** What `--json` prints; `--help` explains each. */
export interface Report {
    readonly messages: number;
    readonly media: number;
    readonly bytes: number;
    readonly outOfOrder: number;
    readonly missing: number;
    readonly mismatched: number;
    readonly failed: number;
    readonly textSendMsP50: number | null;
    readonly mediaSendMsP50: number | null;
    readonly peakRssMb: number;
    readonly seconds: number;
}

export function makeReport(deliveries: readonly Delivery[], findings: Findings, seconds: number): Report {
    const { bytes, outOfOrder, missing, mismatched, failed } = findings;
    const times = (withFile: boolean): number[] =>
        deliveries
            .filter(({ message }) => (message.file !== undefined) === withFile)
            .map(({ sendMs }) => sendMs)
            .filter((sendMs) => sendMs !== undefined);
    return {
        messages: deliveries.length,
        media: deliveries.reduce((sum, { message }) => sum + attachedFiles(message).length, 0),
        bytes,
        outOfOrder,
        missing,
        mismatched,
        failed,
        textSendMsP50: median(times(false)),
        mediaSendMsP50: median(times(true)),
        // Kilobytes on every system, says libuv.
        peakRssMb: rounded((process.resourceUsage().maxRSS * 1024) / 1e6),
        seconds: rounded(seconds),
    };
}

export function isFaithful({ outOfOrder, missing, mismatched }: Report): boolean {
    return outOfOrder === 0 && missing === 0 && mismatched === 0;
}

/** The closing summary for a person. */
export function summary(report: Report): string[] {
    const { messages, media, bytes, failed, textSendMsP50, mediaSendMsP50, peakRssMb, seconds } = report;
    return [
        `${messages} messages with ${media} files, ${formatBytes(bytes)}, in ${seconds} s; ${Math.round(peakRssMb)} MB of memory at most`,
        `order   ${orderSentence(report)}`,
        `files   ${filesSentence(report)}`,
        ...(failed === 0
            ? []
            : [`failed  ${failed} ${failed === 1 ? "file" : "files"} could not be had; each message says why`]),
        ...(textSendMsP50 === null || mediaSendMsP50 === null
            ? []
            : [
                  `speed   a text stood in its room after ${textSendMsP50} ms, a message with a file after ${mediaSendMsP50} ms (median)`,
              ]),
    ];
}

function orderSentence({ outOfOrder, missing }: Report): string {
    if (outOfOrder === 0 && missing === 0)
        return "every message is in its room once, in the order in which it was sent";
    return `${outOfOrder} out of order, ${missing} missing`;
}

function filesSentence({ media, failed, mismatched }: Report): string {
    if (mismatched > 0) return `${mismatched} of ${media} are not what the network has, or cannot be downloaded`;
    return `${media - failed} downloaded again and compared by SHA-256: each is what the network has`;
}
