import type { Exchange } from "./gate.ts";
import { FRESH_LINK, LINK_CALL, type LINKS } from "./connector.ts";
import { type Later, SETS_PICTURE } from "./later.ts";

/** The steps of a message's life that go over the wire, one column of the matrix each. */
export interface Step {
    readonly name: string;
    readonly gate: "homeserver" | "source" | "storage";
    /** Whether this request is the step, for the message that the cell is about. */
    readonly matches: (exchange: Exchange, scene: StepScene) => boolean;
    /** The step whose connections are made in the same way, and are enough. */
    readonly connectsAs?: string;
    /** What has to go wrong before, so that the step is taken at all. */
    readonly after?:
        | "lost event"
        | "lost upload"
        | "lost completion"
        | "lost address"
        | "ending address"
        | "file gone"
        | "broken body";
    /** What the bridge asks for once the room has its messages. @default nothing */
    readonly later?: Later;
    /** The homeserver gives addresses only with an upload. @default false */
    readonly oneStep?: boolean;
    /** The photo has a thumbnail, whose step it is. @default false */
    readonly thumbnail?: boolean;
    /** The photo is looked at before its message is sent. @default false */
    readonly probed?: boolean;
    /** The homeserver names a presigned address. @default false */
    readonly presigned?: boolean;
    /** The sender is not in the room, or not even known. @default "joined" */
    readonly sender?: "joined" | "registered" | "unknown";
    /** The bridge has a crypto, so the room's state is asked. @default false */
    readonly crypto?: boolean;
    /** The source does not say its length, so the file goes over the spool. @default false */
    readonly withoutLength?: boolean;
    /** The message calls its file large, so the component's thread takes it. @default false */
    readonly large?: boolean;
    /** The room is encrypted, and its files come in this way. @default neither */
    readonly encrypted?: "spool" | "two-pass";
    /** The photo's bytes are given with the message. @default false */
    readonly handedOver?: boolean;
    /** The photo comes by a connector, which was given this link to it. @default it is none's */
    readonly connector?: keyof typeof LINKS;
    /** It is a call of the remote network's, and no file. @default false */
    readonly isCall?: boolean;
    /** Another room gets the same photo: at the same time, or before, so that it is there already. @default not */
    readonly shared?: "meanwhile" | "before";
}

export interface StepScene {
    readonly alice: string;
    readonly roomId: string;
    /** All messages are in the room. */
    readonly areSent: () => boolean;
    readonly isPhotoSent: () => boolean;
    readonly photoPath: string;
    readonly thumbnailBytes: number;
    /** Of the photo's event. */
    readonly redactionPath: () => string;
}

const isBy = ({ query }: Exchange, { alice }: StepScene): boolean => query.get("user_id") === alice;
const asks = ({ request, passage }: Exchange, method: string, part: RegExp): boolean =>
    request.method === method && part.test(passage.path);

export const isSend: Step["matches"] = (exchange, scene) =>
    isBy(exchange, scene) && asks(exchange, "PUT", /\/send\//) && !scene.areSent();
export const isCreate: Step["matches"] = (exchange, scene) =>
    isBy(exchange, scene) && asks(exchange, "POST", /\/create$/);
export const isUpload: Step["matches"] = (exchange, scene) =>
    isBy(exchange, scene) && asks(exchange, "PUT", /\/media\/v3\/upload\//);
const isLaterSend: Step["matches"] = (exchange, scene) =>
    isBy(exchange, scene) && asks(exchange, "PUT", /\/send\//) && scene.areSent();
export const isComplete: Step["matches"] = (exchange, scene) =>
    isBy(exchange, scene) && asks(exchange, "POST", /\/complete$/);
export const isPhoto: Step["matches"] = ({ passage }, { photoPath }) => passage.path === photoPath;

const STEPS_OF_ANY_FILE: readonly Step[] = [
    {
        name: "register",
        gate: "homeserver",
        sender: "unknown",
        matches: (exchange) => asks(exchange, "POST", /\/register$/),
    },
    {
        name: "join",
        gate: "homeserver",
        sender: "registered",
        matches: (exchange, scene) => isBy(exchange, scene) && asks(exchange, "POST", /\/join/),
    },
    {
        name: "encryption state",
        gate: "homeserver",
        crypto: true,
        matches: (exchange, scene) => isBy(exchange, scene) && asks(exchange, "GET", /\/state\/m\.room\.encryption/),
    },
    {
        name: "create",
        gate: "homeserver",
        matches: isCreate,
    },
    { name: "event", gate: "homeserver", matches: isSend },
    {
        name: "look for the event",
        gate: "homeserver",
        after: "lost event",
        matches: (exchange, scene) => isBy(exchange, scene) && asks(exchange, "GET", /\/messages$/),
    },
    {
        name: "media config",
        gate: "homeserver",
        matches: (exchange, scene) => isBy(exchange, scene) && asks(exchange, "GET", /\/config$/),
    },
    { name: "source", gate: "source", matches: isPhoto },
    { name: "source without a length", gate: "source", withoutLength: true, matches: isPhoto },
    {
        name: "source resumed",
        gate: "source",
        after: "broken body",
        matches: (exchange, scene) => isPhoto(exchange, scene) && exchange.request.headers.range !== undefined,
    },
    { name: "upload", gate: "homeserver", matches: isUpload },
    {
        name: "look for the upload",
        gate: "homeserver",
        after: "lost upload",
        matches: (exchange, scene) => isBy(exchange, scene) && asks(exchange, "GET", /\/download\//),
    },
    {
        name: "presigned upload",
        gate: "storage",
        presigned: true,
        matches: ({ request }) => request.method === "PUT",
    },
    { name: "complete", gate: "homeserver", presigned: true, matches: isComplete },
    {
        name: "look for the completion",
        gate: "homeserver",
        presigned: true,
        after: "lost completion",
        matches: (exchange, scene) => isBy(exchange, scene) && asks(exchange, "GET", /\/download\//),
    },
    { name: "notice", gate: "homeserver", after: "file gone", matches: isLaterSend },
    {
        name: "another address for one that ends",
        gate: "homeserver",
        after: "ending address",
        connectsAs: "create",
        matches: (exchange, scene) => isCreate(exchange, scene) && scene.isPhotoSent(),
    },
    { name: "edit with another address", gate: "homeserver", after: "lost address", matches: isLaterSend },
    {
        name: "upload without an address",
        gate: "homeserver",
        oneStep: true,
        matches: (exchange, scene) => isBy(exchange, scene) && asks(exchange, "POST", /\/media\/v3\/upload$/),
    },
    {
        name: "thumbnail: upload",
        gate: "homeserver",
        thumbnail: true,
        connectsAs: "upload",
        matches: (exchange, scene) =>
            isUpload(exchange, scene) && exchange.request.headers["content-length"] === String(scene.thumbnailBytes),
    },
    // It is not repeated, so that it is the transfer that connects anew.
    { name: "look before the event", gate: "source", probed: true, connectsAs: "source", matches: isPhoto },
];

/** What is asked for later than the messages. */
const STEPS_OF_LATER_CALLS: readonly Step[] = [
    { name: "remote edit", gate: "homeserver", later: "edit", matches: isLaterSend },
    {
        name: "redaction",
        gate: "homeserver",
        later: "redaction",
        matches: (exchange, scene) => isBy(exchange, scene) && exchange.passage.path.includes(scene.redactionPath()),
    },
    {
        name: "picture of a user",
        gate: "homeserver",
        later: "picture",
        matches: (exchange, scene) => isBy(exchange, scene) && asks(exchange, "PUT", SETS_PICTURE.picture),
    },
    {
        name: "picture of a room",
        gate: "homeserver",
        later: "room picture",
        connectsAs: "picture of a user",
        matches: (exchange) => asks(exchange, "PUT", SETS_PICTURE["room picture"]),
    },
];

/** A file of an encrypted room is read before its event, which carries the hash of what is uploaded after it. */
const STEPS_OF_ENCRYPTED_FILES: readonly Step[] = [
    { name: "encrypted file: source", gate: "source", encrypted: "spool", matches: isPhoto },
    { name: "encrypted file: upload", gate: "homeserver", encrypted: "spool", matches: isUpload },
    {
        name: "encrypted file: source, second pass",
        gate: "source",
        encrypted: "two-pass",
        matches: (exchange, scene) => isPhoto(exchange, scene) && scene.isPhotoSent(),
    },
    {
        name: "encrypted file: notice",
        gate: "homeserver",
        encrypted: "two-pass",
        after: "file gone",
        connectsAs: "notice",
        matches: isLaterSend,
    },
];

/** What the first of those that have a file in common does for all of them, and what is asked of one that is there. */
const STEPS_OF_SHARED_FILES: readonly Step[] = [
    ...STEPS_OF_ANY_FILE.filter(({ name }) => ["source", "upload", "presigned upload", "complete"].includes(name)).map(
        (step): Step => ({ ...step, name: `shared file: ${step.name}`, shared: "meanwhile" }),
    ),
    {
        name: "shared file: is it still there",
        gate: "homeserver",
        shared: "before",
        matches: (exchange, scene) => isBy(exchange, scene) && asks(exchange, "GET", /\/download\//),
    },
];

/** A connector makes its connections by itself, and is asked for another link where the one that it was given has run out. */
const STEPS_OF_CONNECTORS: readonly Step[] = [
    { name: "connector: source", gate: "source", connector: "good", matches: isPhoto },
    {
        name: "connector: fresh link",
        gate: "source",
        connector: "run out",
        isCall: true,
        matches: ({ passage }) => passage.path === LINK_CALL,
    },
    {
        name: "connector: source by a fresh link",
        gate: "source",
        connector: "run out",
        connectsAs: "connector: source",
        matches: (exchange, scene) => isPhoto(exchange, scene) && exchange.query.get("link") === FRESH_LINK,
    },
];

/** What the thread of large files does. */
const IN_THREAD = ["source", "source without a length", "source resumed", "upload", "presigned upload"];

export const STEPS: readonly Step[] = [
    ...STEPS_OF_ANY_FILE,
    ...STEPS_OF_LATER_CALLS,
    { name: "handed-over bytes: upload", gate: "homeserver", handedOver: true, matches: isUpload },
    ...STEPS_OF_ENCRYPTED_FILES,
    ...STEPS_OF_SHARED_FILES,
    ...STEPS_OF_CONNECTORS,
    ...STEPS_OF_ANY_FILE.filter(({ name }) => IN_THREAD.includes(name)).map(
        (step): Step => ({ ...step, name: `large file: ${step.name}`, large: true }),
    ),
];
