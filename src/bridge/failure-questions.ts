import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import PQueue from "p-queue";
import type { ErrorCode } from "../errors.ts";
import { LinkedAbort } from "../linked-abort.ts";
import type { Logger } from "../logger.ts";
import type { JsonObject } from "../matrix/answer.ts";
import { loggable } from "../redact.ts";
import type { Store } from "../store/store.ts";
import type { Job } from "../uploads/job.ts";
import type { KeyedLocks } from "../uploads/keyed-locks.ts";
import { failureKey } from "./event-content.ts";
import { codeOf } from "./failure-notice.ts";
import { type FailureTexts, roomReason } from "./failure-texts.ts";
import { isEventContent } from "./message-check.ts";
import { type AskedFailure, loadMessage, type MessageRecord, messageWrite } from "./records.ts";

/** What `onFailure` as a function is told of a file that cannot come. No credentials, no query of a source's URL. */
export interface FailureInfo {
    readonly messageId: string;
    readonly roomId: string;
    readonly sender: string;
    readonly eventId: string;
    readonly jobId: string;
    readonly code: ErrorCode;
    /** Why, in the words that the notice has for the room. */
    readonly reason: string;
    readonly name: string | undefined;
    /** Bytes. */
    readonly size: number | undefined;
    /** Bytes; for FILE_TOO_LARGE, where it is known. */
    readonly limit: number | undefined;
    readonly publicUrl: string | undefined;
    /** The message's newest content, without the MXC URIs. */
    readonly content: JsonObject;
}

/** The content that the event is edited to; undefined leaves it as it is. */
export type OnFailure = (
    failure: FailureInfo,
) => Record<string, unknown> | undefined | Promise<Record<string, unknown> | undefined>;

/**
 * Asks the embedder what an event is to show in place of a file that cannot come.
 *
 * That a question is asked is journaled before, and its answer before it is sent, so a process that dies in between
 * asks at most once more; after that, as after an error or no answer in time, the notice is shown.
 */
export interface FailureQuestionsParts {
    readonly store: Store;
    readonly logger: Logger;
    /** Undefined where nobody wants to be asked. */
    readonly onFailure: OnFailure | undefined;
    readonly texts: FailureTexts;
    readonly messageLocks: KeyedLocks;
    /** Told after an answer is journaled, or when it is time to ask again. */
    readonly onAnswer: () => void;
}

const TIMEOUT_MS = 10_000;
const RETRY_MS = 1000;
const MAX_CALLS = 2;
const AT_ONCE = 8;
/** The others' marks stay in the journal until these have been answered. */
const MAX_WAITING = 64;

export class FailureQuestions {
    readonly #parts: FailureQuestionsParts;
    readonly #questions = new PQueue({ concurrency: AT_ONCE });
    readonly #asking = new Set<string>();
    readonly #closing = new AbortController();

    constructor(parts: FailureQuestionsParts) {
        this.#parts = parts;
        setMaxListeners(0, this.#closing.signal);
    }

    /** @param content What the message says by now: an answer is given for one text. */
    isAnswered({ failure }: MessageRecord, job: Job, content: JsonObject): boolean {
        return failure?.of === failureKey(job, content) && failure.answer !== undefined;
    }

    /**
     * Asks in the background; does nothing while the same is being asked.
     * @param notice Shown where no answer comes that can be used.
     */
    ask(message: MessageRecord, job: Job, content: JsonObject, notice: JsonObject): void {
        if (this.#closing.signal.aborted || this.#asking.has(message.id) || this.#asking.size >= MAX_WAITING) return;
        this.#asking.add(message.id);
        void this.#questions.add(() => this.#askAndTell(message, job, content, notice));
    }

    /** Does not wait for answers: what is being asked is asked again at the next start, and that does not count. */
    async close(): Promise<void> {
        this.#closing.abort();
        this.#questions.clear();
        await this.#questions.onIdle();
    }

    async #askAndTell(...question: Parameters<FailureQuestions["ask"]>): Promise<void> {
        const [message] = question;
        try {
            await this.#askOnce(...question);
        } catch (error) {
            const text = "What becomes of a failed file could not be journaled";
            this.#parts.logger.error(text, { error: loggable(error) });
            // The message's mark is still there: another look asks again.
            await sleep(RETRY_MS, undefined, { signal: this.#closing.signal }).catch(() => {});
        } finally {
            this.#asking.delete(message.id);
        }
        if (!this.#closing.signal.aborted) this.#parts.onAnswer();
    }

    async #askOnce(...[message, job, content, notice]: Parameters<FailureQuestions["ask"]>): Promise<void> {
        const { id, eventId = "", failure } = message;
        const of = failureKey(job, content);
        const calls = failure?.of === of ? failure.calls : 0;
        if (calls >= MAX_CALLS) return this.#note(id, { of, calls, answer: { content: notice } });
        await this.#note(id, { of, calls: calls + 1 });
        const info = { ...infoOf(job, this.#parts.texts), messageId: id, eventId, content };
        const given = await this.#answer(info);
        if (given === undefined && this.#closing.signal.aborted) return this.#note(id, { of, calls });
        await this.#note(id, { of, calls: calls + 1, answer: given ?? { content: notice } });
    }

    /** Undefined where none came that can be used. */
    async #answer(info: Omit<FailureInfo, "sender" | "roomId">): Promise<AskedFailure["answer"]> {
        const { store, logger, onFailure } = this.#parts;
        const message = await loadMessage(store, info.messageId);
        if (onFailure === undefined || message === undefined) return undefined;
        const late = () => new Error("no answer in time");
        const limit = new LinkedAbort([this.#closing.signal], { ms: TIMEOUT_MS, reason: late });
        try {
            const { sender, roomId } = message;
            // Theirs to change; the message's record is not.
            const own = structuredClone({ ...info, sender, roomId });
            const answer = (async () => onFailure(own))();
            const content: unknown = await Promise.race([answer, limit.aborted()]);
            if (content === undefined) return {};
            if (isEventContent(content)) return { content };
            throw new Error("the answer is not the content of an event");
        } catch (error) {
            if (this.#closing.signal.aborted) return undefined;
            const details = { id: info.messageId, error: loggable(error) };
            logger.error("onFailure gave no answer; the notice is shown", details);
            return undefined;
        } finally {
            limit.release();
        }
    }

    async #note(id: string, failure: AskedFailure): Promise<void> {
        const { store, messageLocks } = this.#parts;
        await messageLocks.hold([id], async () => {
            const message = await loadMessage(store, id);
            if (message !== undefined) await store.commit([messageWrite({ ...message, failure })]);
        });
    }
}

function infoOf(job: Job, texts: FailureTexts) {
    const code = codeOf(job);
    return {
        jobId: job.id,
        code,
        reason: roomReason(code, texts),
        name: job.filename,
        size: job.size,
        limit: job.error?.limit,
        publicUrl: job.publicUrl,
    };
}
