/** What the client takes and returns. */

/** A value: a string is written as text, and bytes as bytes. It is read in the form in which it was written. */
export type Value = string | Uint8Array;

/** The position of a write in the one order of all writes of a key. No part of it is a time of day. */
export interface Stamp {
  readonly epoch: bigint;
  readonly clock: bigint;
  readonly node: string;
}

/** The value of a key, and its version. */
export interface Versioned {
  /** The value, in the form in which it was written. */
  readonly value: Value;
  /** The version, for conditions: no other state of the key has it. */
  readonly version: string;
  /** The rest of the time to live in milliseconds; null for a value that never expires. */
  readonly ttlMs: number | null;
  /** The position among all writes without a condition; that of the one that it builds on for a conditional write. */
  readonly stamp: Stamp | null;
}

/** The state of a key, which may have a value or none. */
export interface KeyState {
  /** The value; null if the key has none. */
  readonly found: Versioned | null;
  /** The version, of a value and of an absence alike. */
  readonly version: string;
  /** The stamp of the latest write or deletion without a condition. */
  readonly stamp: Stamp | null;
}

/** A write that is done: a majority of the key's replicas has it on disk. */
export interface Acknowledged {
  /** The version that the write made. */
  readonly version: string;
  /** The stamp of a write without a condition; that of the one that it builds on for a conditional write. */
  readonly stamp: Stamp | null;
}

/** An addition that is done. */
export interface Added {
  /** The sum. */
  readonly value: bigint;
  /** The version that the addition made. */
  readonly version: string;
}

/** A key of a list. It has a value. */
export interface Listed {
  readonly key: string;
  /** The version of its value, for conditions. */
  readonly version: string;
  /** The value, if the list was asked for values; else null. */
  readonly value: Value | null;
  /** The rest of the time to live in milliseconds; null for a value that never expires. */
  readonly ttlMs: number | null;
}

/** What a watch tells. */
export type WatchEvent =
  /**
   * Every write that is called from now on is told. With `withList` all that is there was told too, and nothing is missed.
   * Without, a write that was called before and is acknowledged later may not be told.
   */
  | { readonly type: "ready" }
  /** A key has a new value. The value is there if the watch was asked for values. */
  | {
      readonly type: "changed";
      readonly key: string;
      readonly version: string;
      readonly value: Value | null;
      readonly ttlMs: number | null;
    }
  /** A key has no value any more. */
  | { readonly type: "deleted"; readonly key: string; readonly version: string }
  /**
   * Changes may have been missed: forget what was told, until `ready` comes again. With `withList`, what is there is told again
   * before that.
   */
  | { readonly type: "reset" };

/** A table. */
export interface TableInfo {
  readonly name: string;
  /** Tells it from earlier and later tables of its name: no two tables ever have one id. 0 for `default`. */
  readonly id: number;
  /** Whether it is being dropped: its keys can neither be read nor written. */
  readonly isDropping: boolean;
  /** The time to live of values that are written without one. */
  readonly defaultTtlMs: number | null;
  /** The greatest value in bytes; null where all are accepted that any table takes. */
  readonly valueBytesMax: number | null;
  /** About how many bytes all keys and values may have together. */
  readonly quotaBytes: number | null;
}

/** A table that is there after it was to be created. */
export interface TableCreated {
  readonly table: TableInfo;
  /** Whether this call created it. It is there already only with `ifMissing`. */
  readonly isNew: boolean;
}

/** One node of the cluster, as the node that answers sees it. */
export interface NodeInfo {
  readonly id: string;
  readonly address: string;
  readonly state: "UNKNOWN" | "LINKED" | "UNREACHABLE" | "REFUSED" | "SELF";
  /** The number of slots that it holds, of 65,536. */
  readonly slots: number;
  /** Why it is not linked; empty if it is. */
  readonly detail: string;
}

/** The cluster, as the node that answers sees it. */
export interface ClusterInfo {
  /** The id of the node that answers. */
  readonly nodeId: string;
  /** The seed of the placement hashes. */
  readonly seed: number;
  readonly replicaCount: number;
  readonly nodes: readonly NodeInfo[];
}

/** The health of a node. */
export interface NodeHealth {
  readonly nodeId: string;
  readonly status: "UNKNOWN" | "ONLINE" | "STARTING" | "DEGRADED" | "DRAINING" | "REFUSED";
  /** Whether it takes requests and its disk takes writes. */
  readonly serves: boolean;
  /** The reason of the status, and what to do; empty if the node is `ONLINE`. */
  readonly detail: string;
  /** The version of the program. */
  readonly version: string;
}

/** How connections are encrypted, and who is believed. All parts are PEM. */
export interface Tls {
  /** The certificates of the authorities that are believed, in PEM; without it those of Node.js. */
  readonly ca?: Uint8Array | string;
  /** The file that has them. */
  readonly caFile?: string;
  /** The client's own certificate, where nodes ask for one. */
  readonly certificate?: Uint8Array | string;
  /** The file that has it. */
  readonly certificateFile?: string;
  /** The key of the client's certificate. */
  readonly key?: Uint8Array | string;
  /** The file that has it. */
  readonly keyFile?: string;
  /** The name that the nodes' certificates have, where it is not the host of their addresses. */
  readonly serverName?: string;
}

/** A token, or a function that returns one for each call. */
export type Token = string | (() => string | Promise<string>);

/** How a client is set up. */
export interface ClientOptions {
  /** Nodes, each as `host:port`. Name several: the client passes over nodes that are down. */
  readonly addresses: readonly string[];
  /** How long an operation may take, all tries together: 1 ms to 60 s. The default is 5 s. */
  readonly deadlineMs?: number;
  /** `true` for TLS with the authorities of Node.js. `https://host:port` does the same for one address. */
  readonly tls?: boolean | Tls;
  /** Sent as `authorization: Bearer` with each call. Without TLS it goes to this machine alone. */
  readonly token?: Token;
  /** The file that has the token. It is read again once a second. */
  readonly tokenFile?: string;
}

/** What ends an operation early. */
export interface Abortable {
  /**
   * Ends the operation at once. A read is then rejected with the signal's reason. A write is rejected with an error that says
   * whether it may have happened; its `cause` is the signal's reason.
   */
  readonly signal?: AbortSignal;
}

export interface GetOptions extends Abortable {
  /**
   * Reads what one replica holds: fast, and with no claim about the others. It may be old, and may be a conditional write that has
   * not succeeded and never will.
   */
  readonly fromOneReplica?: boolean;
  /** Reads what one replica holds, if that is of this version or later, and the latest value otherwise. */
  readonly atLeast?: string;
}

/** What a write depends on. At most one may be given. */
export interface Conditions {
  /**
   * Writes only if the key has this version, which an earlier answer gave. Such a write takes effect once at most, and the client
   * sends it again where a node dies.
   */
  readonly ifVersion?: string;
  /** Writes only if the key has a value. */
  readonly ifPresent?: boolean;
}

export interface SetConditions extends Conditions {
  /** Writes only if the key has no value. */
  readonly ifAbsent?: boolean;
  /** Lets the value expire so long after the write: not before, and a little later. */
  readonly ttlMs?: number;
}

export interface SetOptions extends SetConditions, Abortable {}
export interface DeleteOptions extends Conditions, Abortable {}

export interface AddOptions extends Abortable {
  /**
   * A version of the key that an earlier answer gave. The addition then counts once, and the client sends it again where a node
   * dies. `ConditionFailedError` says that more than eight conditional writes of the key came after that version: take the present
   * one, which the error has.
   */
  readonly since?: string;
  /** Lets the sum expire. */
  readonly ttlMs?: number;
}

/** One write of a batch. Without `table` it goes to the table of the client. */
export type Write =
  | ({ readonly set: string; readonly value: Value; readonly table?: string } & SetConditions)
  | ({ readonly delete: string; readonly table?: string } & Conditions);

export interface ListOptions extends Abortable {
  /** Lists only keys above this one, which need not exist. */
  readonly startAfter?: string;
  /** The most keys. */
  readonly limit?: number;
  /** Asks for the values too. */
  readonly values?: boolean;
}

export interface WatchOptions extends Abortable {
  /** Goes on where an earlier watch of the same keys was: its `cursor`. */
  readonly cursor?: Uint8Array;
  /** Asks for the values too. */
  readonly values?: boolean;
  /** Tells first what is there: `changed` for each key, and `ready` after the last. */
  readonly withList?: boolean;
}

export interface CreateTableOptions extends Abortable {
  /** The time to live of values that are written without one. */
  readonly defaultTtlMs?: number;
  /** The greatest value in bytes. */
  readonly valueBytesMax?: number;
  /** About how many bytes all keys and values may have. Nodes learn of it within seconds. */
  readonly quotaBytes?: number;
  /** Takes a table that is there already, if it has the settings that are given. Without settings, any will do. */
  readonly ifMissing?: boolean;
}
