import { expect } from "chai";
import { addressPolicy } from "../../src/uploads/sources/address-guard.ts";

/** What must never be connected to for a remote's sake, by what it is. */
const REFUSED: Readonly<Record<string, readonly string[]>> = {
    "this host": ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "::", "::1"],
    "private networks": ["10.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.0.1", "fc00::1", "fd12:3456::1"],
    "the cloud's metadata": [
        "169.254.169.254",
        "fd00:ec2::254",
        "fe80::a9fe:a9fe",
        "168.63.129.16",
        "::ffff:168.63.129.16",
    ],
    "link-local, with a zone too": ["169.254.0.1", "fe80::1", "fe80::1%eth0", "febf::1"],
    "site-local, long abolished": ["fec0::1"],
    "a provider's own (100.64/10)": ["100.64.0.1", "100.127.255.254"],
    multicast: ["224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1"],
    broadcast: ["255.255.255.255"],
    reserved: ["192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "240.0.0.1", "100::1"],
    "documentation and trials": ["2001:db8::1", "3fff::1", "2001:2::1", "5f00::1"],
    "IPv4-mapped": ["::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:10.0.0.1", "::FFFF:169.254.169.254"],
    "IPv4-translated": ["::ffff:0:127.0.0.1", "::ffff:0:a00:1"],
    "IPv4-compatible": ["::127.0.0.1", "::7f00:1", "::10.0.0.1", "::a00:1", "::169.254.169.254"],
    NAT64: ["64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::a00:1", "64:ff9b:1:abcd::1"],
    "6to4": ["2002:7f00:1::", "2002:a00:1::1", "2002:808:808::1"],
    Teredo: ["2001:0:53aa:64c::f5ff:fffe", "2001::1"],
    "not given out": ["200::1", "4000::1", "8000::1", "fe00::1"],
    "no address": ["", "nonsense", "localhost", "1.2.3.4.5", "999.1.1.1", "1.1.1.1/8"],
};

const GLOBAL = [
    "168.63.129.15",
    "1.1.1.1",
    "8.8.8.8",
    "172.32.0.1",
    "100.128.0.1",
    "192.169.0.1",
    "169.253.255.255",
    "::ffff:8.8.8.8",
];
const GLOBAL_V6 = ["2606:4700::1111", "2a00:1450:4001:81b::200e", "2001:4860:4860::8888"];

describe("which addresses a source may have", () => {
    const allowed = addressPolicy(false);
    for (const [what, addresses] of Object.entries(REFUSED)) {
        it(`not: ${what}`, () => {
            for (const address of addresses) expect(allowed(address), address).to.equal(false);
        });
    }

    it("those of the open Internet", () => {
        for (const address of [...GLOBAL, ...GLOBAL_V6]) expect(allowed(address), address).to.equal(true);
    });

    it("those listed, and nothing beside them", () => {
        expect(addressPolicy(["168.63.129.16"])("168.63.129.16")).to.equal(true);
        const listed = addressPolicy(["10.1.0.0/16", "fd00::/8", "127.0.0.1", "::ffff:192.168.7.7"]);
        for (const address of ["10.1.2.3", "::ffff:10.1.2.3", "fd12::1", "127.0.0.1", "192.168.7.7", "8.8.8.8"])
            expect(listed(address), address).to.equal(true);
        for (const address of ["10.2.0.1", "fc00::1", "127.0.0.2", "192.168.7.8", "::a01:203", "64:ff9b::a01:203"])
            expect(listed(address), address).to.equal(false);
    });

    it("any with `true`; what is no network is refused as an option", () => {
        expect(addressPolicy(true)("127.0.0.1")).to.equal(true);
        for (const wrong of ["10.0.0.0/33", "localhost", "10.0.0.0/", ""])
            expect(() => addressPolicy([wrong]), wrong)
                .to.throw()
                .with.property("code", "INVALID_OPTION");
    });
});
