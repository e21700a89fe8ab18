/** What the endpoints work with. */
import type { Accounts } from "./accounts.ts";
import type { MediaStore } from "./media-store.ts";
import type { Membership } from "./membership.ts";
import type { Settings } from "./options.ts";
import type { Rooms } from "./rooms.ts";
import type { Transactions } from "./transactions.ts";

export interface Services {
    readonly settings: Settings;
    readonly accounts: Accounts;
    readonly rooms: Rooms;
    readonly membership: Membership;
    readonly media: MediaStore;
    readonly transactions: Transactions;
}
