import { expect } from "chai";
import { MediaError } from "../../src/errors.ts";
import { ActingUsers } from "../../src/matrix/client.ts";
import { unlessThere } from "../../src/uploads/encryption/unless-there.ts";
import { someJob } from "../support/job.ts";
import { type Remote, startRemote } from "../support/remote.ts";
import { plainBridge } from "../support/world.ts";

const job = someJob({
    state: "transferring",
    mimetype: "text/html",
    contentUri: "mxc://b/c",
    encryption: { strategy: "two-pass", size: 5 },
});

describe("a source that has changed since its file was encrypted", () => {
    let homeserver: Remote;
    beforeEach(async () => {
        homeserver = await startRemote();
    });
    afterEach(() => homeserver.close());

    /** What becomes of it where the homeserver answers the question for the content with this. */
    async function outcome(status: number, type: string, body: string): Promise<unknown> {
        homeserver.on("/_matrix/client/v1/media/download/b/c", (_request, response) => {
            // In chunks: no length tells it from the file.
            response.writeHead(status, { "content-type": type }).write(body);
            response.end();
        });
        const users = new ActingUsers(plainBridge(homeserver.url, "@bot:b"));
        const changed = new MediaError("SOURCE_CHANGED");
        const ended = unlessThere(job, changed, users, new AbortController().signal);
        return ended.catch((error: MediaError) => (error === changed ? "changed" : error.code));
    }

    it("is none where an earlier try has brought it", async () => {
        const there = await outcome(200, "application/octet-stream", "12345");
        expect(there).to.deep.equal({ size: 5, contentUri: "mxc://b/c" });
    });

    it("is one where the homeserver says that it has nothing", async () => {
        expect(await outcome(504, "application/json", '{"errcode":"M_NOT_YET_UPLOADED"}')).to.equal("changed");
    });

    it("is one where a page refuses the question: it may stay, and the file comes anew", async () => {
        for (const status of [400, 403])
            expect(await outcome(status, "text/html", "<html>"), `${status}`).to.equal("changed");
    });

    it("is not known where the answer passes", async () => {
        expect(await outcome(502, "text/html", "<html>")).to.equal("HOMESERVER_FAILING");
    });

    it("does not take a page with status 200 for it, also where its event says that it is a page", async () => {
        expect(await outcome(200, "text/html", "<html>")).to.equal("HOMESERVER_ANSWER_INVALID");
    });
});
