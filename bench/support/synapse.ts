import { access } from "node:fs/promises";
import { join, resolve } from "node:path";
import { AS_TOKEN } from "../../test/synapse/harness/config.ts";
import { Synapse } from "../../test/synapse/harness/synapse.ts";
import type { Context } from "./context.ts";
import type { HomeserverAccess } from "./rooms.ts";

const INSTALLED = join(resolve(import.meta.dirname, "..", ".."), ".e2e", "synapse", "installed.txt");

/** A Synapse as `npm run test:synapse` has installed it; undefined where it has not. */
export async function openSynapse(
    context: Context,
): Promise<(HomeserverAccess & { ghostNamed(name: string): string }) | undefined> {
    const isInstalled = await access(INSTALLED).then(
        () => true,
        () => false,
    );
    if (!isInstalled) {
        context.missing = "Synapse, which `npm run test:synapse` installs";
        return undefined;
    }
    const synapse = await Synapse.open();
    context.closeLater(synapse);
    const ghostNamed = (name: string) => synapse.registration.ghost(name);
    return { homeserverUrl: synapse.url, accessToken: AS_TOKEN, ghost: ghostNamed("bench"), ghostNamed };
}
