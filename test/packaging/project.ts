import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { npm } from "../support/pack.ts";

/** A bridge developer's TypeScript project with the packed package installed, and nothing of this repository. */

/** The oldest compiler that is promised, the newest of its major version, and the newest of all. */
export const COMPILERS = {
    "typescript-5.3": "npm:typescript@~5.3.3",
    "typescript-5": "npm:typescript@^5.9.3",
    "typescript-7": "npm:typescript@^7.0.2",
} as const;
export type Compiler = keyof typeof COMPILERS;
export type ModuleKind = "esm" | "cjs";

export interface Project {
    write(name: string, text: string): Promise<void>;
    /** Compiles everything with `strict` and without `skipLibCheck`; rejects with what the compiler says. */
    compile(compiler: Compiler): Promise<void>;
    /** Runs what a compiler made of a source file; rejects when it fails. */
    run(compiler: Compiler, name: string, env?: Record<string, string>): Promise<{ stdout: string; stderr: string }>;
}

export async function newProject(directory: string, kind: ModuleKind, tarball: string): Promise<Project> {
    await mkdir(directory);
    const write = (name: string, text: string): Promise<void> => writeFile(join(directory, name), text);
    const manifest = {
        name: `fresh-${kind}`,
        private: true,
        type: kind === "esm" ? "module" : "commonjs",
        dependencies: { "matrix-bridge-media": `file:${tarball}` },
        devDependencies: { ...COMPILERS, "@types/node": "^20.19.0" },
    };
    await write("package.json", JSON.stringify(manifest));
    await npm(["install", "--no-audit", "--no-fund", "--prefer-offline"], directory);
    const compilerOptions = {
        target: "es2022",
        module: "node16",
        moduleResolution: "node16",
        strict: true,
        skipLibCheck: false,
        types: ["node"],
        rootDir: ".",
    };
    await write("tsconfig.json", JSON.stringify({ compilerOptions, include: ["*.ts"] }));
    return {
        write,
        async compile(compiler) {
            const tsc = join(directory, "node_modules", compiler, "bin/tsc");
            await node([tsc, "-p", ".", "--outDir", `out-${compiler}`], directory).catch((error: unknown) => {
                throw new Error(`${compiler}:\n${(error as { stdout?: string }).stdout}`, { cause: error });
            });
        },
        run: (compiler, name, env) => node([join(`out-${compiler}`, name)], directory, env),
    };
}

function node(args: readonly string[], cwd: string, env: Record<string, string> = {}) {
    return promisify(execFile)(process.execPath, args, {
        cwd,
        env: { PATH: process.env["PATH"], ...env },
        timeout: 60_000,
    });
}
