/**
 * Constant load with things going wrong, for as long as one likes: text and files of all kinds, in several rooms and for
 * several ghosts. The component, the homeserver, the file server and the storage are processes of their own. It
 * fails when something grows (trend.ts), when the backlog does not come to an end afterwards, or when a room in the end
 * does not show every message once, in order and with the right bytes (verify.ts).
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { judge, line, type Measured, table } from "./figures.ts";
import { Parties } from "./parties.ts";
import { soak } from "./soak.ts";
import { verify } from "./verify.ts";

const number = (least: number) => (text: string) => {
    const value = Number(text);
    if (!Number.isFinite(value) || value < least) throw new InvalidArgumentError(`a number from ${least} on`);
    return value;
};

const { minutes, seed, rate, kills } = new Command("soak")
    .description("Constant load with faults; fails when something grows, is lost, doubled, out of order or wrong.")
    .option("--minutes <n>", "how long; a slower leak needs a longer run", number(0.5), 10)
    .option("--seed <n>", "what is said and what goes wrong", number(0), Date.now() % 1_000_000)
    .option("--rate <n>", "messages a second", number(0.1), 10)
    .option("--kills", "SIGKILL the component now and then; process figures are then judged in its last life", false)
    .parse()
    .opts<{ minutes: number; seed: number; rate: number; kills: boolean }>();

console.log(
    `seed ${seed}: npm run soak -- --minutes ${minutes} --seed ${seed} --rate ${rate}${kills ? " --kills" : ""}`,
);
const folder = await mkdtemp(join(tmpdir(), "bridge-media-soak-"));
const parties = new Parties(folder, seed, rate);
const measured: Measured[] = [];
const troubles = new Map<string, number>();
try {
    await parties.start();
    await soak(parties, { minutes, seed, kills }, (event) => {
        if ("trouble" in event) troubles.set(event.trouble, (troubles.get(event.trouble) ?? 0) + 1);
        else {
            measured.push(event.measured);
            console.log(line(event.measured, parties.said));
        }
    });
    const { events, files, notices, faults } = await verify(parties);
    const judged = judge(measured);
    console.log(
        `\n${[...troubles]
            .toSorted(([a], [b]) => a.localeCompare(b))
            .map(([what, count]) => `${what} ${count} ×`)
            .join(", ")}\n`,
    );
    console.log(table(judged));
    console.log(
        `\n${events} messages, ${files} files as they should be, ${notices} notices for files that did not come in time`,
    );
    for (const fault of faults) console.log(`WRONG: ${fault}`);
    const growing = judged.filter(({ trend }) => trend?.grows === true);
    for (const { name } of growing) console.log(`GROWS: ${name}`);
    if (faults.length > 0 || growing.length > 0) {
        console.log(`soak failed; seed ${seed}`);
        process.exitCode = 1;
    } else {
        const isShort = judged.some(({ trend }) => trend === undefined);
        console.log(`soak passed${isShort ? ", but was too short to judge everything" : ""}; seed ${seed}`);
    }
} catch (error) {
    console.log(`soak failed; seed ${seed}`);
    throw error;
} finally {
    await parties.close();
    await rm(folder, { recursive: true, force: true });
}
