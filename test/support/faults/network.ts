import { execFileSync } from "node:child_process";
import dns from "node:dns";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import type { TlsIdentity } from "./gate.ts";

/**
 * Names and certificates for the gates, as this process sees them: its resolver knows `*.gate.test`, its TLS trusts the
 * tests' own authority. Both are replaced beneath everything else, so that the component takes its usual ways.
 */

export const ZONE = ".gate.test";

/** Names that fail now, and how. */
export const failingNames = new Map<string, "ENOTFOUND" | "EAI_AGAIN" | "silent">();
const lookups = new Map<string, number>();

type LookupCallback = (error: Error | null, address?: unknown, family?: number) => void;

/** Resolves `*.gate.test` to 127.0.0.1 until what it returns is called. */
export function useResolver(): () => void {
    const original = dns.lookup;
    const replaced = (hostname: string, options: unknown, callback?: LookupCallback): void => {
        const done = (typeof options === "function" ? options : callback) as LookupCallback;
        if (!hostname.endsWith(ZONE)) {
            (original as unknown as (...given: unknown[]) => void)(hostname, options, callback);
            return;
        }
        lookups.set(hostname, lookupCount(hostname) + 1);
        const failing = failingNames.get(hostname);
        if (failing === "silent") return;
        const all = typeof options === "object" && options !== null && "all" in options && options.all === true;
        setImmediate(() => {
            if (failing !== undefined)
                done(Object.assign(new Error(`getaddrinfo ${failing} ${hostname}`), { code: failing, hostname }));
            else if (all) done(null, [{ address: "127.0.0.1", family: 4 }]);
            else done(null, "127.0.0.1", 4);
        });
    };
    dns.lookup = replaced as typeof dns.lookup;
    syncBuiltinESMExports();
    return () => {
        dns.lookup = original;
        syncBuiltinESMExports();
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
        const original = tls.createSecureContext;
        tls.createSecureContext = (options) => {
            const context = original(options);
            // What NODE_EXTRA_CA_CERTS does at the start of a process.
            (context.context as { addCACert(pem: string): void }).addCACert(trusted);
            return context;
        };
        return {
            good: identity("good"),
            otherName: identity("other"),
            selfSigned: identity("self"),
            close: () => {
                tls.createSecureContext = original;
            },
        };
    } finally {
        rmSync(folder, { recursive: true, force: true });
    }
}
