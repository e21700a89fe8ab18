import type { IncomingMessage } from "node:http";
import { messages } from "../download.ts";
import { until } from "../until.ts";
import { type CellScene, gateOf, shownIn, THUMBNAIL_BYTES } from "./cell-scene.ts";
import { FRESH_LINK, LINK_CALL, LINKS } from "./connector.ts";
import type { Fault } from "./faults.ts";
import type { Exchange, Injection } from "./gate.ts";
import { isComplete, isCreate, isPhoto, isSend, isUpload, type Step, type StepScene } from "./steps.ts";

/** What has to go wrong before a step, so that it is taken at all; and then the fault. */

const PHOTO_PATH = "/photo";
/** An address' life, as the homeserver says. Its message is sent within it also on a machine that has other things to do. */
const ENDING_MS = 10_000;
/** For so long the source has nothing for anybody. */
const UNAVAILABLE_S = 12;

export function armed(scene: CellScene, fault: Fault, step: Step): Injection {
    const stepScene: StepScene = {
        alice: scene.alice,
        roomId: scene.roomId,
        areSent: () => scene.areSent,
        isPhotoSent: () => shownIn(scene, scene.roomId).length >= 2,
        photoPath: PHOTO_PATH,
        thumbnailBytes: THUMBNAIL_BYTES,
        redactionPath: () => `/redact/${encodeURIComponent(shownIn(scene, scene.roomId)[1]?.event_id ?? "")}/`,
    };
    const before = step.after === undefined ? undefined : BEFORE[step.after];
    before?.(scene, stepScene);
    serve(scene, step);
    const gate = gateOf(scene, step);
    if (gate === undefined) throw new Error("no storage");
    const isOfPhoto = ({ request }: Exchange): boolean =>
        step.gate !== "storage" || request.headers["content-length"] === String(scene.photo.length);
    return gate.inject(
        (exchange) => isOfPhoto(exchange) && step.matches(exchange, stepScene),
        fault.strike,
        fault.times,
    );
}

type Before = (scene: CellScene, stepScene: StepScene) => void;

const loseAnswer =
    (matches: (exchange: Exchange, stepScene: StepScene, scene: CellScene) => boolean): Before =>
    (scene, stepScene) =>
        void scene.homeserverGate.inject(
            (exchange) => matches(exchange, stepScene, scene),
            async ({ deliver, socket }) => {
                await deliver();
                socket.resetAndDestroy();
            },
        );

const BEFORE: Readonly<Record<NonNullable<Step["after"]>, Before | undefined>> = {
    // The photo's, behind the first text.
    "lost event": loseAnswer(
        (exchange, stepScene, { world, roomId }) =>
            isSend(exchange, stepScene) && messages(world.homeserver, roomId).length === 1,
    ),
    "lost upload": loseAnswer(isUpload),
    "lost completion": loseAnswer(isComplete),
    "lost address"(scene, stepScene) {
        let lost: string | undefined;
        scene.homeserverGate.inject(
            (exchange) => isUpload(exchange, stepScene) && exchange.passage.path === (lost ??= exchange.passage.path),
            async (exchange) => {
                exchange.request.resume();
                // Not before the room has all messages, so that the edit is one of its own.
                await until(() => scene.areSent);
                refuseAsUnknown(exchange);
            },
            Number.POSITIVE_INFINITY,
        );
    },
    "ending address"({ homeserverGate, sourceGate }, stepScene) {
        let [path, endsAt] = ["", Number.POSITIVE_INFINITY];
        homeserverGate.inject(
            (exchange) => isCreate(exchange, stepScene),
            async ({ deliver, response }) => {
                const created = JSON.parse((await deliver()).body.toString()) as { readonly content_uri: string };
                path = created.content_uri.slice("mxc:/".length);
                endsAt = performance.now() + ENDING_MS;
                const answer = { ...created, unused_expires_at: Date.now() + ENDING_MS };
                response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
            },
        );
        homeserverGate.inject(
            ({ passage }) => path !== "" && passage.path.endsWith(path) && performance.now() > endsAt,
            refuseAsUnknown,
            Number.POSITIVE_INFINITY,
        );
        sourceGate.inject(
            (exchange) => isPhoto(exchange, stepScene),
            ({ response }) => void response.writeHead(503, { "retry-after": String(UNAVAILABLE_S) }).end(),
        );
    },
    "broken body"({ sourceGate }, stepScene) {
        sourceGate.inject(
            (exchange) => isPhoto(exchange, stepScene) && exchange.request.headers.range === undefined,
            async ({ response, deliver, socket }) => {
                const { headers, body } = await deliver();
                response.writeHead(200, headers);
                await new Promise((resolve) => response.write(body.subarray(0, 300_000), resolve));
                socket.destroySoon();
            },
        );
    },
    // By whoever serves it.
    "file gone": undefined,
};

function refuseAsUnknown({ request, response }: Exchange): void {
    request.resume();
    response.writeHead(404, { "content-type": "application/json" });
    response.end('{"errcode":"M_NOT_FOUND","error":"Unknown media ID"}');
}

function serve(scene: CellScene, step: Step): void {
    const { remote, photo } = scene;
    // The first of two passes finds it.
    let finds = step.encrypted === "two-pass" ? 1 : 0;
    remote.on(PHOTO_PATH, (request, response) => {
        if (request.url === LINKS["run out"]) return void response.writeHead(403).end();
        if (step.after === "file gone" && finds-- <= 0) {
            // Not before the room has all messages, so that the notice is an edit of its own.
            void until(() => scene.areSent).then(() => response.writeHead(404).end());
            return;
        }
        // Taken back before it is there.
        if (step.later === "redaction") return;
        const from = firstByteOf(request);
        const body = photo.subarray(from ?? 0);
        response.writeHead(from === undefined ? 200 : 206, {
            "content-type": "image/jpeg",
            etag: '"the-photo"',
            ...(step.withoutLength !== true && { "content-length": body.length }),
            ...(from !== undefined && { "content-range": `bytes ${from}-${photo.length - 1}/${photo.length}` }),
        });
        response.end(body);
    });
    remote.on(LINK_CALL, (_request, response) => {
        response.writeHead(200, { "content-type": "application/json" });
        response.end(JSON.stringify({ link: `${PHOTO_PATH}?link=${FRESH_LINK}` }));
    });
}

function firstByteOf({ headers }: IncomingMessage): number | undefined {
    const from = /^bytes=(\d+)-$/.exec(headers.range ?? "")?.[1];
    return from === undefined ? undefined : Number(from);
}
