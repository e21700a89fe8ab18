import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Fault } from "./faults.ts";
import { type Exchange, FaultGate } from "./gate.ts";
import { type Certificates, failingNames, lookupCount } from "./network.ts";

/**
 * Rows of the matrix that meet the making of a connection. The request at the gate is cut undelivered, with every other
 * connection; what comes then to begin anew meets the fault, a few times or for a while.
 */

const CONNECTIONS = 2;
/** For what nobody can count from here. */
const LASTING_MS = 2500;
/** When nobody comes. */
const LONGEST_MS = 60_000;

function onNextConnections(count: number, meet: (socket: Socket) => void): Fault["strike"] {
    return ({ gate }: Exchange) => {
        let left = count;
        gate.onConnection = (socket) => {
            if (left-- <= 0) return false;
            meet(socket);
            return true;
        };
        gate.cut();
    };
}

function whileNameIs(state: "ENOTFOUND" | "EAI_AGAIN" | "silent"): Fault["strike"] {
    return async ({ gate }) => {
        const before = lookupCount(gate.host);
        failingNames.set(gate.host, state);
        gate.cut();
        // One silent lookup is enough: nobody comes back from it.
        const enough = state === "silent" ? 1 : CONNECTIONS;
        const end = performance.now() + LONGEST_MS;
        while (performance.now() < end && gate.connectionHits < enough) {
            await sleep(10);
            gate.connectionHits = lookupCount(gate.host) - before;
        }
        failingNames.delete(gate.host);
    };
}

export function connectionFaults({
    otherName,
    selfSigned,
}: Pick<Certificates, "otherName" | "selfSigned">): readonly Fault[] {
    const fault = (name: string, strike: Fault["strike"], silent = false): Fault => ({
        name,
        times: 1,
        strike,
        silent,
        onConnection: true,
    });
    return [
        fault("connection refused", async ({ gate }) => {
            await gate.shut();
            // A port that is shut counts nobody; whoever has another way may not even wait for it.
            gate.connectionHits++;
            await sleep(LASTING_MS);
            await gate.listen();
        }),
        fault("name does not resolve (ENOTFOUND)", whileNameIs("ENOTFOUND")),
        fault("name does not resolve now (EAI_AGAIN)", whileNameIs("EAI_AGAIN")),
        fault("resolver is silent", whileNameIs("silent"), true),
        fault(
            "TLS: self-signed certificate",
            onNextConnections(CONNECTIONS, (socket) => FaultGate.shake(socket, selfSigned)),
        ),
        fault(
            "TLS: certificate of another host",
            onNextConnections(CONNECTIONS, (socket) => FaultGate.shake(socket, otherName)),
        ),
        fault(
            "TLS: handshake cut",
            onNextConnections(CONNECTIONS, (socket) => socket.once("data", () => socket.destroy())),
        ),
        fault(
            "TLS: handshake silent",
            onNextConnections(1, (socket) => socket.resume()),
            true,
        ),
    ];
}
