import { fileURLToPath } from "node:url";
import { compiled } from "../../scripts/compiled.ts";

let folder: URL | undefined;

/** What node starts, without a loader: the driver of that name here, compiled once for all tests of this process. */
export function compiledDriver(name: "avatar-driver" | "canary-driver" | "crash-driver" | "lock-driver"): string {
    folder ??= new URL("test/support/", compiled("test/support/tsconfig.json"));
    return fileURLToPath(new URL(`${name}.js`, folder));
}
