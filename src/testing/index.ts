/**
 * The contracts of this package's interfaces as tests, for whoever implements one of them. They need no test runner of
 * their own:
 *
 *     import { storeContract } from "matrix-bridge-media/testing";
 *     describe("MyStore", () => {
 *         for (const { name, run } of storeContract((directory) => new MyStore(directory))) it(name, run);
 *     });
 */
export type { Damage, Range, Store, StoredRecord, Write } from "../store/store.ts";
export type { Connector, OpenedSource } from "../uploads/sources/source.ts";
export type { ContractCase } from "./contract-case.ts";
export { type ConnectorUnderTest, connectorContract, type SourceUnderTest, sourceContract } from "./source-contract.ts";
export { storeContract } from "./store-contract.ts";
export type { CertifiableConnector, ConnectorModule, StoreModule } from "./certify/candidates.ts";
export { type CertifyOptions, certify } from "./certify/certify.ts";
export type { CertificationReport, Violation } from "./certify/report.ts";
