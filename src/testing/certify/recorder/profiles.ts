import type { Media } from "./media.ts";

/** The pictures of the recording homeserver's users. */
export class Profiles {
    readonly #media: Media;
    readonly #pictures = new Map<string, string[]>();
    readonly complaints: string[] = [];

    constructor(media: Media) {
        this.#media = media;
    }

    set(user: string, uri: string): void {
        // A picture that is not there is shown as none by every client.
        if (this.#media.find(uri)?.content === undefined)
            this.complaints.push(`${uri} became the picture of ${user} before it was there`);
        this.#pictures.set(user, [...this.of(user), uri]);
    }

    /** All that were set, in their order. */
    of(user: string): readonly string[] {
        return this.#pictures.get(user) ?? [];
    }
}
