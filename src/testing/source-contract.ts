import assert from "node:assert/strict";
import type { Connector, OpenedSource } from "../uploads/sources/source.ts";
import type { ContractCase } from "./contract-case.ts";

/** A source, seen as one file that is there and one that is not. */
export interface SourceUnderTest {
    /** What the file holds; at least a mebibyte, so that reading it can be broken off midway. */
    readonly bytes: Uint8Array;
    readonly open: (signal: AbortSignal) => Promise<OpenedSource>;
    readonly openMissing: (signal: AbortSignal) => Promise<OpenedSource>;
}

/** A connector, with a reference to a file that is there and one to a file that is not. */
export interface ConnectorUnderTest {
    readonly bytes: Uint8Array;
    /** Called in each case, so that servers may be started before. */
    readonly connector: () => Connector;
    readonly ref: () => unknown;
    readonly missingRef: () => unknown;
}

type Read = Awaited<ReturnType<typeof read>>;

const MIN_BYTES = 2 ** 20;
const never = (): AbortSignal => new AbortController().signal;

/** What every source of bytes has to keep. */
export function sourceContract({ bytes, open, openMissing }: SourceUnderTest): ContractCase[] {
    assert.ok(bytes.length >= MIN_BYTES, `The file under test must have ${MIN_BYTES} bytes or more`);
    return [
        {
            name: "opens the file at its beginning and gives all of it",
            run: async () => expectBytes(await read(await open(never())), bytes),
        },
        {
            name: "announces the length that arrives, or none",
            run: async () => {
                const opened = await open(never());
                const { length } = await read(opened);
                if (opened.size !== undefined) assert.equal(opened.size, length);
            },
        },
        {
            name: "opens the same file twice, independently",
            run: async () => {
                const first = await open(never());
                const iterator = first.stream[Symbol.asyncIterator]();
                const begun = await iterator.next();
                expectBytes(await read(await open(never())), bytes);
                assert.ok(begun.done !== true);
                expectBytes(Buffer.concat([begun.value, ...(await rest(iterator))]), bytes);
            },
        },
        {
            name: "opens again after a stream was destroyed midway",
            run: async () => {
                const { stream } = await open(never());
                for await (const _ of stream) break;
                stream.destroy();
                expectBytes(await read(await open(never())), bytes);
            },
        },
        {
            name: "ends the stream with an error when it is aborted, never as if it were whole",
            run: async () => {
                const aborter = new AbortController();
                const { stream } = await open(aborter.signal);
                await assert.rejects(async () => {
                    for await (const _ of stream) aborter.abort();
                }, Error);
            },
        },
        {
            name: "gives nothing once it is aborted before it was opened",
            run: async () => {
                await assert.rejects(async () => read(await open(AbortSignal.abort())), Error);
            },
        },
        {
            name: "rejects with an Error when the file is not there",
            run: async () => {
                await assert.rejects(async () => openMissing(never()), Error);
            },
        },
    ];
}

/** What every connector has to keep: the rules of sources, and those of offsets and fresh references. */
export function connectorContract({ bytes, connector, ref, missingRef }: ConnectorUnderTest): ContractCase[] {
    const openAt = (offset: number): Promise<OpenedSource> => connector().open(ref(), { offset, signal: never() });
    return [
        ...sourceContract({
            bytes,
            open: async (signal) => connector().open(ref(), { offset: 0, signal }),
            openMissing: async (signal) => connector().open(missingRef(), { offset: 0, signal }),
        }),
        {
            name: "skips as many bytes as the offset says",
            run: async () => {
                for (const offset of [1, 65_537, bytes.length - 1]) {
                    expectBytes(await read(await openAt(offset)), bytes.subarray(offset));
                }
            },
        },
        {
            name: "takes a reference that has been through JSON",
            run: async () => {
                const persisted = JSON.parse(JSON.stringify(ref())) as unknown;
                expectBytes(await read(await connector().open(persisted, { offset: 0, signal: never() })), bytes);
            },
        },
        {
            name: "opens the reference that refresh gives, where there is a refresh",
            run: async () => {
                const tested = connector();
                if (tested.refresh === undefined) return;
                const fresh = await tested.refresh(ref());
                expectBytes(await read(await tested.open(fresh, { offset: 0, signal: never() })), bytes);
            },
        },
    ];
}

async function read({ stream }: OpenedSource): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of stream as AsyncIterable<Uint8Array>) chunks.push(chunk);
    return Buffer.concat(chunks);
}

async function rest(iterator: AsyncIterator<Uint8Array>): Promise<Uint8Array[]> {
    const chunks: Uint8Array[] = [];
    for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) chunks.push(next.value);
    return chunks;
}

/** Compared as a whole: a diff of a mebibyte would help nobody. */
function expectBytes(actual: Read, expected: Uint8Array): void {
    assert.equal(actual.length, expected.length, "length");
    assert.ok(actual.equals(expected), "The bytes are not those of the file");
}
