import type { Deed } from "./deeds.ts";
import type { PlannedFile } from "./messages.ts";
import type { Recorder } from "./recorder/recorder.ts";
import type { ExpectedDeed } from "./sequels.ts";

type Picture = Extract<Deed, { does: "picture" }>;

/**
 * What is wrong with the users' pictures: each that took effect for certain was set once, and the one that is shown in the
 * end is the newest of those, or a newer one.
 */
export function wrongPictures(
    { profiles, media }: Pick<Recorder, "profiles" | "media">,
    users: readonly string[],
    expected: readonly ExpectedDeed[],
    bytesOf: (file: PlannedFile) => Buffer,
): string[] {
    const found = [...profiles.complaints];
    const pictures = expected.filter((one): one is ExpectedDeed & { deed: Picture } => one.deed.does === "picture");
    for (const user of users) {
        const own = pictures.filter(({ deed }) => deed.user === user);
        const newest = own.findLast(({ isCertain }) => isCertain)?.deed.number ?? -1;
        const all = profiles.of(user).map((uri) => media.find(uri)?.content);
        for (const { deed, isCertain } of own)
            if (isCertain && !all.some((content) => content?.equals(bytesOf(deed.file)) === true))
                found.push(`${deed.id} was never the picture of ${user}`);
        const shown = profiles.of(user).at(-1);
        const content = media.find(shown)?.content;
        const isOne = own.some(({ deed }) => deed.number >= newest && content?.equals(bytesOf(deed.file)) === true);
        if (shown === undefined ? newest >= 0 : !isOne)
            found.push(`the picture of ${user} is ${shown ?? "none"}, and not that of d${newest}`);
    }
    return found;
}
