import { execFileSync } from "node:child_process";
import dns from "node:dns";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import { BroadcastChannel, setEnvironmentData } from "node:worker_threads";
import type { TlsIdentity } from "./gate.ts";

/**
 * Names and certificates for the gates, as this process sees them: its resolver knows `*.gate.test`, its TLS trusts the
 * tests' own authority. Both are replaced beneath everything else, so that the component takes its usual ways, in its
 * thread too (thread-network.ts).
 */

export const ZONE = ".gate.test";
export type NameState = "ENOTFOUND" | "EAI_AGAIN" | "silent";

/** Names that fail now, and how. */
export const failingNames = new Map<string, NameState>();
const lookups = new Map<string, number>();

/** What a thread asks of a name, and what it is told. */
export interface Question {
    readonly thread: number;
    readonly id: number;
    readonly hostname: string;
}
export type Told = Question & { readonly state: NameState | "well" };
/** The channel between the threads. */
export const NAMES = "the tests' names";
/** The authority's certificate, for threads that begin later. */
export const AUTHORITY = "the tests' authority";

type LookupCallback = (error: Error | null, address?: unknown, family?: number) => void;

/** Resolves `*.gate.test` to 127.0.0.1 until what it returns is called. */
export function useResolver(): () => void {
    const stateOf = (hostname: string): NameState | undefined => {
        lookups.set(hostname, lookupCount(hostname) + 1);
        return failingNames.get(hostname);
    };
    const forget = replaceLookup(async (hostname) => stateOf(hostname));
    const channel = new BroadcastChannel(NAMES);
    channel.addEventListener("message", (event: Event) => {
        const { data } = event as unknown as { readonly data: Question };
        // oxlint-disable-next-line unicorn/require-post-message-target-origin -- no window's
        channel.postMessage({ ...data, state: stateOf(data.hostname) ?? "well" } satisfies Told);
    });
    setEnvironmentData("preload", new URL("./thread-network.ts", import.meta.url).href);
    return () => {
        setEnvironmentData("preload", undefined);
        channel.close();
        forget();
    };
}

/** Has names of the zone looked up by `stateOf`, in this thread, until what it returns is called. */
export function replaceLookup(stateOf: (hostname: string) => Promise<NameState | undefined>): () => void {
    const original = dns.lookup;
    const replaced = (hostname: string, options: unknown, callback?: LookupCallback): void => {
        const done = (typeof options === "function" ? options : callback) as LookupCallback;
        if (!hostname.endsWith(ZONE)) {
            (original as unknown as (...given: unknown[]) => void)(hostname, options, callback);
            return;
        }
        const all = typeof options === "object" && options !== null && "all" in options && options.all === true;
        const answer = async (): Promise<void> => {
            const failing = await stateOf(hostname);
            if (failing === "silent") return;
            setImmediate(() => {
                if (failing !== undefined)
                    done(Object.assign(new Error(`getaddrinfo ${failing} ${hostname}`), { code: failing, hostname }));
                else if (all) done(null, [{ address: "127.0.0.1", family: 4 }]);
                else done(null, "127.0.0.1", 4);
            });
        };
        void answer();
    };
    dns.lookup = replaced as typeof dns.lookup;
    syncBuiltinESMExports();
    return () => {
        dns.lookup = original;
        syncBuiltinESMExports();
    };
}

/** Makes this thread's TLS trust an authority until what it returns is called: what NODE_EXTRA_CA_CERTS does at the start of a process. */
export function trust(authority: string): () => void {
    const original = tls.createSecureContext;
    tls.createSecureContext = (options) => {
        const context = original(options);
        (context.context as { addCACert(pem: string): void }).addCACert(authority);
        return context;
    };
    return () => {
        tls.createSecureContext = original;
    };
}

/** How often a name of the zone was asked for. */
export function lookupCount(hostname: string): number {
    return lookups.get(hostname) ?? 0;
}

/** Certificates by openssl: of an authority that this process trusts, for the zone and for another name, and of nobody. */
export interface Certificates {
    readonly good: TlsIdentity;
    readonly otherName: TlsIdentity;
    readonly selfSigned: TlsIdentity;
    /** Makes this process trust the authority no more. */
    close(): void;
}

export function makeCertificates(): Certificates {
    const folder = mkdtempSync(join(tmpdir(), "fault-tls-"));
    const file = (name: string): string => join(folder, name);
    const openssl = (...args: string[]): void => void execFileSync("openssl", args, { cwd: folder, stdio: "ignore" });
    const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    const identity = (name: string): TlsIdentity => ({
        key: readFileSync(file(`${name}.key`), "utf8"),
        cert: readFileSync(file(`${name}.pem`), "utf8"),
    });
    try {
        const authority = ["req", "-x509", ...newKey, "-days", "3650"];
        openssl(...authority, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=The tests");
        openssl(...authority, "-keyout", "self.key", "-out", "self.pem", "-subj", `/CN=*${ZONE}`);
        for (const [name, host] of [
            ["good", `*${ZONE}`],
            ["other", "elsewhere.test"],
        ]) {
            writeFileSync(file(`${name}.ext`), `subjectAltName=DNS:${host}\n`);
            openssl("req", "-new", ...newKey, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=${name}`);
            const signed = [
                "x509",
                "-req",
                "-in",
                `${name}.csr`,
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
            ];
            openssl(...signed, "-days", "3650", "-extfile", `${name}.ext`, "-out", `${name}.pem`);
        }
        const trusted = readFileSync(file("ca.pem"), "utf8");
        const distrust = trust(trusted);
        setEnvironmentData(AUTHORITY, trusted);
        return {
            good: identity("good"),
            otherName: identity("other"),
            selfSigned: identity("self"),
            close: () => {
                setEnvironmentData(AUTHORITY, undefined);
                distrust();
            },
        };
    } finally {
        rmSync(folder, { recursive: true, force: true });
    }
}
