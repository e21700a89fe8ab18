import { lookup as systemLookup, type LookupAddress } from "node:dns";
import { Agent as HttpAgent, type AgentOptions } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { isIP, type LookupFunction } from "node:net";
import type { Duplex } from "node:stream";
import ipaddr from "ipaddr.js";
import { MediaError } from "../../errors.ts";

/**
 * Keeps remote-supplied URLs out of the operator's network. The check stands where the connection is made, on the
 * address that is connected to: a name that resolves differently the second time, a redirect, an odd spelling of an
 * address, all come through here.
 */
export type AddressPolicy = (address: string) => boolean;

/**
 * Which addresses may be connected to: global unicast ones, and those in the given networks.
 * @param allowPrivate `true` allows every address, a list allows these networks (`10.0.0.0/8`, `fd00::/8`, one address).
 * Throws INVALID_OPTION when an entry is no network.
 */
export function addressPolicy(allowPrivate: boolean | readonly string[]): AddressPolicy {
    if (allowPrivate === true) return () => true;
    const networks = (allowPrivate === false ? [] : allowPrivate).map(parseNetwork);
    return (text) => {
        if (!ipaddr.isValid(text)) return false;
        // IPv4 in IPv6 (::ffff:10.0.0.1) is judged as the IPv4 address it reaches.
        const address = ipaddr.process(text);
        return isGlobal(address) || networks.some((network) => contains(network, address));
    };
}

/**
 * What IANA has given out for the open Internet. In IPv6 that is 2000::/3 alone: beyond it lie also ::/96 (an IPv4 address
 * in disguise) and whatever may be given a meaning one day. Ranges that lead on to an IPv4 address (NAT64, 6to4,
 * Teredo) are none of it, whichever address it is.
 */
const GLOBAL_IPV6 = ipaddr.IPv6.parseCIDR("2000::/3");

/** Azure's WireServer: by its range an address of the open Internet, but every machine there is told its own secrets by it. */
const WIRE_SERVER = ipaddr.IPv4.parse("168.63.129.16").toString();

function isGlobal(address: ipaddr.IPv4 | ipaddr.IPv6): boolean {
    if (address.toString() === WIRE_SERVER) return false;
    return address.range() === "unicast" && (address.kind() === "ipv4" || address.match(GLOBAL_IPV6));
}

type Network = [ipaddr.IPv4 | ipaddr.IPv6, number];

function parseNetwork(text: string): Network {
    try {
        if (text.includes("/")) return ipaddr.parseCIDR(text);
        const address = ipaddr.process(text);
        return [address, address.kind() === "ipv4" ? 32 : 128];
    } catch (cause) {
        throw new MediaError("INVALID_OPTION", {
            field: "allowPrivateAddresses",
            detail: `${text} is no network`,
            cause,
        });
    }
}

function contains([base, bits]: Network, address: ipaddr.IPv4 | ipaddr.IPv6): boolean {
    if (base.kind() !== address.kind()) return false;
    return address.match(base, bits);
}

/** What Node documents as the places to override; its types leave the first out, and what the second gives. */
interface Overridable {
    createConnection: (options: ConnectOptions, callback: (error: Error) => void) => unknown;
    /** Whether an idle connection is kept. */
    keepSocketAlive: (socket: Duplex) => boolean;
}
interface ConnectOptions {
    readonly host?: string | null;
    readonly lookup?: LookupFunction;
    readonly timeout?: number | undefined;
}

/** A backlog leads to any number of origins, and not all of them close what is idle. */
const IDLE_MS = 5000;
const MAX_IDLE_OF_AN_ORIGIN = 8;
const MAX_IDLE = 32;

/**
 * HTTP agents that connect only where the policy allows, and keep few idle connections, not for long. `destroy()` them to end those.
 * @param idleMs Where a server says that it closes them sooner, they are closed before that.
 */
export function guardedAgents(allowed: AddressPolicy, idleMs = IDLE_MS) {
    const options: AgentOptions = { keepAlive: true, timeout: idleMs, maxFreeSockets: MAX_IDLE_OF_AN_ORIGIN };
    return { http: guard(new HttpAgent(options), allowed), https: guard(new HttpsAgent(options), allowed) };
}

function guard<A extends HttpAgent>(agent: A, allowed: AddressPolicy): A {
    const overridable = agent as unknown as Overridable;
    const connect = overridable.createConnection.bind(agent);
    const lookup = guardedLookup(allowed);
    overridable.createConnection = (options, callback) => {
        const host = options.host ?? "localhost";
        if (isIP(host) !== 0 && !allowed(host)) {
            // Names are checked by the lookup; a literal address never gets there.
            process.nextTick(callback, refusal(host));
            return undefined;
        }
        // The time is an idle connection's: one that is being made, or that a file comes by, has its request's limits.
        return connect({ ...options, lookup, timeout: undefined }, callback);
    };
    const keepAlive = overridable.keepSocketAlive.bind(agent);
    overridable.keepSocketAlive = (socket) => idleOf(agent) < MAX_IDLE && keepAlive(socket);
    return agent;
}

function idleOf({ freeSockets }: HttpAgent): number {
    return Object.values(freeSockets).reduce((sum, sockets = []) => sum + sockets.length, 0);
}

function guardedLookup(allowed: AddressPolicy): LookupFunction {
    return (hostname, options, callback) => {
        systemLookup(hostname, { ...options, all: true }, (error, found: LookupAddress[]) => {
            if (error !== null) return callback(error, "", 0);
            const usable = found.filter(({ address }) => allowed(address));
            const [first] = usable;
            if (first === undefined) return callback(refusal(hostname), "", 0);
            if (options.all === true) return callback(null, usable);
            return callback(null, first.address, first.family);
        });
    };
}

function refusal(host: string): MediaError {
    return new MediaError("SOURCE_ADDRESS_REFUSED", { detail: host });
}
