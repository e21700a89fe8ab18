import type { BridgeMedia, JobInfo, SentMessage, UploadHandle } from "../../../src/index.ts";

/** A sent message's file, the first one of several. */
export function uploadOf({ uploads: [upload] }: SentMessage): UploadHandle & { readonly contentUri: string } {
    if (upload?.contentUri === undefined) throw new Error("No file with an address");
    return upload as UploadHandle & { readonly contentUri: string };
}

export async function jobsOf(media: BridgeMedia): Promise<JobInfo[]> {
    const found: JobInfo[] = [];
    for await (const job of media.jobs()) found.push(job);
    return found;
}
