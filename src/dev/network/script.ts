import type { SampleName } from "./sample-files.ts";

/**
 * What is said in the three rooms of the sample network. Right behind the large video come texts and a photo: they
 * arrive at once and in this order, while the video is still on its way.
 */
export interface ScriptLine {
    readonly who: string;
    readonly text?: string;
    readonly file?: SampleName | "large video";
}

export interface Script {
    readonly id: string;
    readonly title: string;
    readonly lines: readonly ScriptLine[];
}

export const SCRIPTS: readonly Script[] = [
    {
        id: "old-pier",
        title: "Old pier walk",
        lines: [
            { who: "ines", text: "Good morning! Who is coming along on Saturday?" },
            { who: "tomas", text: "I am. This was yesterday, from the jetty:" },
            { who: "tomas", file: "lake-at-sunset.jpg", text: "No filter, promised" },
            { who: "xiaoyu", text: "太美了！ I'll bring the big camera." },
            { who: "ines", file: "tide-table.png", text: "High water is a quarter to six, so we cross at eleven" },
            { who: "xiaoyu", file: "large video", text: "The whole crossing from last year, all in one take" },
            { who: "tomas", text: "That one will take a while … but I can already read on 🙂" },
            { who: "ines", file: "packing-list.pdf", text: "The packing list" },
            { who: "ines", file: "voice-message.ogg" },
            { who: "tomas", file: "moon-over-the-bay.jpg", text: "And this is why we stay until ten" },
            { who: "xiaoyu", text: "See you at seven!" },
        ],
    },
    {
        id: "new-workshop",
        title: "New workshop",
        lines: [
            { who: "anwar", text: "مرحبا, the landlord sent the plan" },
            { who: "anwar", file: "floor-plan.png", text: "Ground floor, scale 1:60" },
            { who: "mila", text: "Eight desks in the office? Optimistic." },
            { who: "anwar", text: "Six and a plant, then." },
            { who: "mila", file: "cat-sticker.webp" },
            { who: "anwar", text: "I take that as a yes. Keys on Thursday." },
        ],
    },
    {
        id: "kitchen-table",
        title: "Kitchen table",
        lines: [
            { who: "noor", file: "fruit-on-the-table.jpg", text: "Who eats all this?" },
            { who: "jonas", text: "Not the cat" },
            { who: "jonas", file: "cat-blinks.gif" },
            { who: "noor", text: "Look what the window did last night" },
            { who: "noor", file: "sun-goes-down.mp4", text: "Four seconds, but worth it" },
            { who: "jonas", text: "Nice! Dinner at eight?" },
            { who: "noor", text: "Eight it is" },
        ],
    },
];
