import { readFile } from "node:fs/promises";
import { parse } from "yaml";
import { z } from "zod";
import { DemoFailure, reasonOf } from "./failure.ts";
import { EXIT } from "./options.ts";

const FILE = z.object({
    as_token: z.string().min(1),
    sender_localpart: z.string().min(1),
    namespaces: z.object({ users: z.array(z.object({ regex: z.string() })).min(1) }),
});

/** What the demo needs of an appservice's registration file (Application Service API, "Registration"). */
export interface Registration {
    readonly asToken: string;
    readonly senderLocalpart: string;
    /** Regular expressions over user ids. */
    readonly userNamespaces: readonly string[];
}

export async function readRegistration(path: string): Promise<Registration> {
    let content: unknown;
    try {
        content = parse(await readFile(path, "utf8"));
    } catch (error) {
        throw unusable(path, reasonOf(error));
    }
    const result = FILE.safeParse(content);
    if (!result.success) {
        const [issue] = result.error.issues;
        throw unusable(path, `${issue?.path.join(".") || "the file"}: ${issue?.message}`);
    }
    const { as_token: asToken, sender_localpart: senderLocalpart, namespaces } = result.data;
    return { asToken, senderLocalpart, userNamespaces: namespaces.users.map(({ regex }) => regex) };
}

/** A user id in the appservice's namespace for the remote user `name`. */
export function ghostId(
    { userNamespaces }: Pick<Registration, "userNamespaces">,
    name: string,
    serverName: string,
): string {
    for (const namespace of userNamespaces) {
        const userId = `${literalStart(namespace).replace(/:.*$/, "")}${name}:${serverName}`;
        // Homeservers match at the start of the user id and leave the end to the expression.
        if (userId.startsWith("@") && new RegExp(`^(?:${namespace})`).test(userId)) return userId;
    }
    throw new DemoFailure(
        `error: option '--registration': no user id of ${serverName} for ghosts fits ${userNamespaces.join(" or ")}; expected something like @bridge_.*`,
        { exitCode: EXIT.usage },
    );
}

/** As much of the expression as stands for itself: `@slack_` of `@slack_.*:example\.org`. */
function literalStart(regex: string): string {
    const [start = ""] = /^\^?(?:\\[^a-zA-Z0-9]|[^\\.*+?()[\]{}|^$])*/.exec(regex) ?? [];
    return start.replace(/^\^/, "").replaceAll("\\", "");
}

function unusable(path: string, why: string): DemoFailure {
    return new DemoFailure(`error: option '--registration': ${path} cannot be used: ${why}`, { exitCode: EXIT.usage });
}
