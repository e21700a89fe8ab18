import { LogStore } from "./log-store.mjs";

/** Says that a commit is there, and writes it a little later. */
class ForgetfulStore extends LogStore {
    #unwritten = "";

    async write(log, text) {
        if (this.#unwritten === "") setTimeout(() => this.#flush(log), 30);
        this.#unwritten += text;
    }

    #flush(log) {
        const text = this.#unwritten;
        this.#unwritten = "";
        log.appendFile(text).catch(() => {});
    }
}

export default (directory) => new ForgetfulStore(directory);
