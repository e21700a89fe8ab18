import { type FileServer, startFileServer } from "./file-server.ts";
import { generatedFile, type RemoteFile } from "./remote-file.ts";
import type { Attachment, Conversation } from "./remote-message.ts";
import { SAMPLE_FILES, type SampleFile, type SampleName, sampleCatalogue } from "./sample-files.ts";
import { type Script, type ScriptLine, SCRIPTS } from "./script.ts";

/** The sample remote network: three conversations, and the server from which a bridge gets their files. */
export interface SampleNetwork {
    readonly port: number;
    readonly conversations: readonly Conversation[];
    close(): Promise<void>;
}

export interface SampleNetworkOptions {
    /** Links to files hold for as long as the port stays the same; 0 takes any free one. */
    readonly port: number;
    readonly videoBytes: number;
    readonly videoBytesPerSecond: number;
    /** Between two messages of a room. */
    readonly pauseMs: number;
}

/** What the network calls this bridge's login. It opens sample files on loopback and nothing else. */
const TOKEN = "sample-network-login";
const VIDEO = "video-crossing.mp4";
/** The Saturday of the walk, so that a message looks the same at every start. */
const FIRST_MESSAGE_AT = Date.UTC(2025, 4, 17, 6, 0);

export async function startSampleNetwork(options: SampleNetworkOptions): Promise<SampleNetwork> {
    const catalogue = await sampleCatalogue(TOKEN);
    const server = await startFileServer({ port: options.port, catalogue });
    const library = new Library(server, catalogue, options);
    return {
        port: server.port,
        conversations: SCRIPTS.map((script) => conversation(script, library, options.pauseMs)),
        close: () => server.close(),
    };
}

function conversation({ id, title, lines }: Script, library: Library, pauseMs: number): Conversation {
    return {
        id: `sample/${id}`,
        title,
        pauseMs,
        messages: lines.map((line, index) => {
            const file = line.file === undefined ? undefined : library.attachment(line.file);
            return {
                id: messageId(id, index, line, file),
                sender: line.who,
                timestamp: FIRST_MESSAGE_AT + index * 60_000,
                text: line.text,
                file,
            };
        }),
    };
}

/** A video of another size is another message: nobody may mistake it for the one that was bridged before. */
function messageId(script: string, index: number, line: ScriptLine, file: Attachment | undefined): string {
    const suffix = line.file === "large video" ? `-${file?.original.size}` : "";
    return `sample/${script}/${String(index + 1).padStart(3, "0")}${suffix}`;
}

/** Makes attachments of files on the server. */
class Library {
    readonly #server: FileServer;
    readonly #catalogue: ReadonlyMap<string, RemoteFile>;
    readonly #options: SampleNetworkOptions;

    constructor(server: FileServer, catalogue: ReadonlyMap<string, RemoteFile>, options: SampleNetworkOptions) {
        this.#server = server;
        this.#catalogue = catalogue;
        this.#options = options;
    }

    attachment(name: SampleName | "large video"): Attachment {
        return name === "large video" ? this.#largeVideo() : this.#sample(name);
    }

    #sample(name: SampleName): Attachment {
        const { kind, width, height, durationMs }: SampleFile = SAMPLE_FILES[name];
        const original = this.#catalogue.get(name);
        if (original === undefined) throw new Error(`The sample file ${name} is not in the catalogue`);
        const headers = original.token === undefined ? undefined : { authorization: `Bearer ${original.token}` };
        const url = `${this.#server.url}/files/${name}`;
        const location =
            headers === undefined ? ({ kind: "http", url } as const) : ({ kind: "http", url, headers } as const);
        return { kind, name, original, location, width, height, durationMs };
    }

    #largeVideo(): Attachment {
        const { videoBytes, videoBytesPerSecond } = this.#options;
        return {
            kind: "video",
            name: VIDEO,
            location: {
                kind: "http",
                url: `${this.#server.url}/generated/${VIDEO}?size=${videoBytes}&rate=${videoBytesPerSecond}`,
            },
            original: generatedFile(VIDEO, videoBytes),
            width: 1920,
            height: 1080,
            thumbnail: this.#sample("crossing-poster.jpg"),
        };
    }
}
