import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";

interface Packed {
    readonly filename: string;
    readonly files: readonly { readonly path: string }[];
}

/** Packs the package as it would be published, and returns the tarball with the names of the files in it. */
export async function pack(root: string, destination: string): Promise<{ tarball: string; files: string[] }> {
    const { stdout } = await npm(["pack", "--json", "--silent", "--pack-destination", destination], root);
    // What the build prints goes before it.
    const answer = JSON.parse(stdout.slice(stdout.search(/^[[{]/m))) as Packed[] | Record<string, Packed>;
    const [packed] = Object.values(answer);
    if (packed === undefined) throw new Error(`npm pack answered ${stdout}`);
    return { tarball: join(destination, packed.filename), files: packed.files.map(({ path }) => path) };
}

export function npm(args: readonly string[], cwd: string): Promise<{ stdout: string; stderr: string }> {
    return promisify(execFile)("npm", args, { cwd, maxBuffer: 2 ** 26 });
}
