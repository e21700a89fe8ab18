import { LogStore } from "./log-store.mjs";

/** Never says that it has written anything. */
class StuckStore extends LogStore {
    commit() {
        return new Promise(() => {});
    }
}

export default (directory) => new StuckStore(directory);
