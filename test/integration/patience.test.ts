import { expect } from "chai";
import { download } from "../support/download.ts";
import { photoMessage } from "../support/messages.ts";
import { gets, openPresignedScene } from "../support/presigned-scene.ts";
import { someBytes } from "../support/remote.ts";
import { startS3rver } from "../support/s3rver.ts";
import { closeScene, openScene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const LIMITED = { status: 429, body: { errcode: "M_LIMIT_EXCEEDED" } };

/** The times between those at which `matches` was asked, in milliseconds. */
function gaps(times: readonly number[]): number[] {
    return times.slice(1).map((at, index) => at - (times[index] ?? 0));
}

function expectBackOff(times: readonly number[]): void {
    for (const [index, gap] of gaps(times).entries()) expect(gap, `gap ${index}`).to.be.at.least(240 * 2 ** index);
}

describe("what passes by waiting", () => {
    it("a 429 that does not say how long is met ever more seldom, costs no try, and holds up nobody else", async function () {
        this.timeout(60_000);
        const { world, remote, alice, roomId } = await openScene();
        try {
            const media = world.component({ maxAttempts: 1 });
            await media.start();
            const times: number[] = [];
            let limited = "";
            let isLimited = true;
            world.homeserver.intercept(({ method, path }) => {
                if (method !== "PUT" || !path.includes("/upload/")) return undefined;
                if (limited === "") limited = path;
                if (path !== limited) return undefined;
                times.push(performance.now());
                return isLimited ? LIMITED : undefined;
            });
            const bytes = someBytes(2000);
            const url = remote.file(bytes);
            const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
            await until(() => times.length === 3);
            // Whole between two of its tries, the time between which grows: on a slow machine between later ones.
            const goesBetween = async (): Promise<boolean> => {
                const before = times.length;
                const others = { kind: "buffer", data: someBytes(2000) } as const;
                const { uploads } = await media.send(photoMessage(roomId, alice, others));
                await uploads[0]?.done;
                return times.length === before;
            };
            let files = 1;
            for (; !(await goesBetween()); files++) expect(files, "files that it held up").to.be.below(4);
            isLimited = false;
            const job = await sent.uploads[0]?.done;
            expect(job?.state).to.equal("done");
            expect((await download(world.homeserver, job?.contentUri ?? "")).body.equals(bytes)).to.equal(true);
            expectBackOff(times);
            expect(remote.requests, "each try opens the source").to.have.length(times.length);
        } finally {
            await closeScene({ world, remote });
        }
    });

    it("so is one to /complete, and no byte is read again", async function () {
        this.timeout(30_000);
        const scene = await openPresignedScene(startS3rver);
        try {
            const times: number[] = [];
            scene.world.homeserver.intercept(({ path }) => {
                if (!path.endsWith("/complete")) return undefined;
                times.push(performance.now());
                return times.length < 4 ? LIMITED : undefined;
            });
            const media = scene.world.component({ maxAttempts: 1 });
            await media.start();
            const bytes = someBytes(2000);
            const photo = await scene.photo(media, bytes);
            await scene.expectContent(photo, bytes);
            expectBackOff(times);
            expect(gaps(times)[0]).to.be.below(1000);
            expect(gets(scene, photo.url)).to.equal(1);
        } finally {
            await scene.close();
        }
    });
});
