import type { Store } from "../../store/store.ts";
import type { Connector } from "../../uploads/sources/source.ts";

/** The parts of others that are certified: modules, because the process that is killed has to load them too. */

/** What the module of a store exports as its default. The store makes its folder where it is missing. */
export type StoreModule = (directory: string) => Store;

/** What the module of a connector exports as its default; it may also be a promise. */
export type ConnectorModule = () => CertifiableConnector | Promise<CertifiableConnector>;

export interface CertifiableConnector {
    readonly connector: Connector;
    /** Files that can be had in every process that calls the function, each with its bytes. */
    readonly files: readonly { readonly ref: unknown; readonly bytes: Uint8Array }[];
}

export async function loadStore(url: string): Promise<StoreModule> {
    const create = await defaultOf(url);
    return (directory) => {
        const store = create(directory) as Partial<Store> | undefined;
        if (typeof store?.open !== "function" || typeof store.commit !== "function")
            throw new TypeError(
                `${url} must export (directory) => Store as its default: what it gave has no open() or commit()`,
            );
        return store as Store;
    };
}

export async function loadConnector(url: string): Promise<CertifiableConnector> {
    const create = await defaultOf(url);
    const { connector, files } = ((await create()) ?? {}) as Partial<CertifiableConnector>;
    if (typeof connector?.open !== "function" || !Array.isArray(files) || files.length === 0)
        throw new TypeError(
            `${url} must export () => ({ connector, files }) as its default: a connector with open(), and one file at least`,
        );
    return { connector, files };
}

async function defaultOf(url: string): Promise<(...args: unknown[]) => unknown> {
    const module = (await import(url)) as { default?: unknown };
    // A CommonJS module that was compiled from TypeScript has its default one level down.
    const given = module.default as { default?: unknown } | undefined;
    const found = typeof given === "function" ? given : given?.default;
    if (typeof found !== "function") throw new TypeError(`${url} must export a function as its default`);
    return found as (...args: unknown[]) => unknown;
}
