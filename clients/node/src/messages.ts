/**
 * From what users give to requests, and from answers to what users get. Input is checked before anything is sent. Answers came over
 * the network, so each of them is checked before it is believed.
 */

import { randomBytes } from "node:crypto";
import { type Metadata, type ServiceError, status as Code } from "@grpc/grpc-js";
import * as api from "./api.js";
import type { Duration } from "./google/protobuf/duration.js";
import {
  ConditionFailedError,
  InvalidInputError,
  NoSuchTableError,
  NotANumberError,
  type NodeFailure,
  OutcomeUnknownError,
  QuorateError,
  RefusedError,
  TableExistsError,
  TryNext,
} from "./errors.js";
import type {
  Acknowledged,
  Added,
  AddOptions,
  ClusterInfo,
  Conditions,
  CreateTableOptions,
  WatchEvent,
  KeyState,
  Listed,
  NodeHealth,
  SetConditions,
  Stamp,
  TableInfo,
  Value,
  Versioned,
} from "./types.js";

const KEY_BYTES_MAX = 4096;
const VALUE_BYTES_MAX = 60 << 20;
const TABLE_NAME_BYTES_MAX = 128;
export const BATCH_KEYS_MAX = 1000;
const TTL_MS_MAX = 3650 * 24 * 3600 * 1000;
const DEFAULT_TABLE = "default";

/** A node's answer makes no sense. */
export class BadAnswer extends Error {
  constructor(problem: string) {
    super(`bad answer: ${problem}`);
  }
}

// Input

function invalid(problem: string): InvalidInputError {
  return new InvalidInputError(problem);
}

function bytesOf(what: string, text: string): number {
  if (typeof text !== "string") throw invalid(`the ${what} is no string`);
  // A surrogate alone has no UTF-8: it would be sent as another character.
  if (/\p{Surrogate}/u.test(text)) throw invalid(`the ${what} is not valid UTF-8`);
  return Buffer.byteLength(text);
}

export function checkKey(key: string): string {
  const bytes = bytesOf("key", key);
  if (bytes === 0) throw invalid(`the key is empty: give it 1 to ${KEY_BYTES_MAX} bytes of UTF-8`);
  if (bytes > KEY_BYTES_MAX) throw invalid(`the key has ${bytes} bytes: at most ${KEY_BYTES_MAX} are accepted`);
  return key;
}

export function checkPrefix(what: string, text: string): string {
  const bytes = bytesOf(what, text);
  if (bytes > KEY_BYTES_MAX) throw invalid(`the ${what} has ${bytes} bytes: at most ${KEY_BYTES_MAX} are accepted`);
  return text;
}

export function checkVersion(version: string): string {
  if (bytesOf("version", version) === 0) throw invalid("the version is empty: give one that an answer about the key had");
  return version;
}

/** The name of a table in requests: empty for the default table. */
export function checkTable(name: string): string {
  const bytes = bytesOf("name of the table", name);
  if (bytes === 0) throw invalid(`the name of the table is empty: give it 1 to ${TABLE_NAME_BYTES_MAX} bytes of UTF-8`);
  if (bytes > TABLE_NAME_BYTES_MAX) {
    throw invalid(`the name of the table has ${bytes} bytes: at most ${TABLE_NAME_BYTES_MAX} are accepted`);
  }
  const refused = /[\s\p{Cc}/]/u.exec(name);
  if (refused) {
    const character = JSON.stringify(refused[0]);
    throw invalid(`the name of the table holds ${character}: spaces, control characters and slashes are not accepted`);
  }
  return name === DEFAULT_TABLE ? "" : name;
}

export function checkCreatedTable(name: string): string {
  if (checkTable(name) === "") {
    throw invalid(`table ${DEFAULT_TABLE} always exists: it cannot be created or dropped, and has no settings`);
  }
  return name;
}

function durationOf(ttlMs: number | undefined): Duration | undefined {
  if (ttlMs === undefined) return undefined;
  if (!(ttlMs > 0 && ttlMs <= TTL_MS_MAX)) {
    throw invalid(
      `a time to live of ${ttlMs} ms is not accepted: 1 ms to 3,650 days are; without one a value never expires`,
    );
  }
  const seconds = Math.floor(ttlMs / 1000);
  return { seconds: BigInt(seconds), nanos: Math.min(Math.round((ttlMs - seconds * 1000) * 1e6), 999_999_999) };
}

function entryOf(key: string, value: Value): api.Entry {
  const isText = typeof value === "string";
  if (!isText && !(value instanceof Uint8Array)) throw invalid("the value is neither a string nor a Uint8Array");
  const bytes = isText ? bytesOf("value", value) : value.byteLength;
  if (bytes > VALUE_BYTES_MAX) throw invalid(`the value has ${bytes} bytes: at most ${VALUE_BYTES_MAX} are accepted`);
  return { key, content: isText ? { $case: "value", value } : { $case: "binary", value } };
}

/** A request, and whether it may be sent again. */
export interface Resendable<T> {
  readonly request: T;
  readonly mayBeResent: boolean;
}

const NO_ID = new Uint8Array();

function conditionOf(conditions: SetConditions): { condition: api.Condition | undefined; requestId: Uint8Array } {
  const { ifVersion, ifAbsent, ifPresent } = conditions;
  const given = Number(ifVersion !== undefined) + Number(ifAbsent === true) + Number(ifPresent === true);
  if (given > 1) throw invalid("more than one condition is given: give ifVersion, ifAbsent or ifPresent");
  let condition: api.Condition["condition"];
  if (ifVersion !== undefined) condition = { $case: "ifVersion", value: checkVersion(ifVersion) };
  else if (ifAbsent) condition = { $case: "ifAbsent", value: true };
  else if (ifPresent) condition = { $case: "ifPresent", value: true };
  if (!condition) return { condition: undefined, requestId: NO_ID };
  return { condition: { condition }, requestId: randomBytes(16) };
}

/** What a write of a batch has beside its options. */
const PLACE = ["set", "delete", "value", "table"];

/** An option that is misspelt, or a version that is undefined, would make a write without its condition. */
function checkOptions(options: object, names: readonly string[]): void {
  for (const [name, value] of Object.entries(options)) {
    if (!names.includes(name) && !PLACE.includes(name)) throw invalid(`there is no option ${name}: ${names.join(", ")} are accepted`);
    if (value === undefined && (name === "ifVersion" || name === "since")) {
      throw invalid(`${name} is undefined: leave it out for a write that names no version`);
    }
  }
}

export function setRequest(table: string, key: string, value: Value, options: SetConditions): Resendable<api.SetRequest> {
  checkOptions(options, ["ifVersion", "ifAbsent", "ifPresent", "ttlMs", "signal"]);
  const entry = entryOf(checkKey(key), value);
  const request = { entry, table, ttl: durationOf(options.ttlMs), resend: false, ...conditionOf(options) };
  return { request, mayBeResent: options.ifVersion !== undefined };
}

export function deleteRequest(table: string, key: string, options: Conditions): Resendable<api.DeleteRequest> {
  checkOptions(options, ["ifVersion", "ifPresent", "signal"]);
  const request = { key: checkKey(key), table, resend: false, ...conditionOf(options) };
  return { request, mayBeResent: options.ifVersion !== undefined };
}

export function addRequest(
  table: string,
  key: string,
  delta: number | bigint,
  options: AddOptions,
): Resendable<api.AddRequest> {
  checkOptions(options, ["since", "ttlMs", "signal"]);
  if (typeof delta === "number" && !Number.isSafeInteger(delta)) {
    throw invalid(`cannot add ${delta}: whole numbers are accepted; give large ones as bigint`);
  }
  const number = BigInt(delta);
  if (BigInt.asIntN(64, number) !== number) throw invalid(`cannot add ${delta}: whole numbers of 64 bits are accepted`);
  const since = options.since === undefined ? undefined : checkVersion(options.since);
  const ttl = durationOf(options.ttlMs);
  const request = { key: checkKey(key), table, delta: number, since, requestId: randomBytes(16), resend: false, ttl };
  return { request, mayBeResent: since !== undefined };
}

export function createRequest(name: string, options: CreateTableOptions): api.TableCreateRequest {
  const { defaultTtlMs, valueBytesMax, quotaBytes, ifMissing = false } = options;
  const isWhole = (bytes: number, most: number) => Number.isSafeInteger(bytes) && bytes >= 1 && bytes <= most;
  if (valueBytesMax !== undefined && !isWhole(valueBytesMax, VALUE_BYTES_MAX)) {
    throw invalid(`a greatest value of ${valueBytesMax} bytes is not accepted: 1 to ${VALUE_BYTES_MAX} are`);
  }
  if (quotaBytes !== undefined && !isWhole(quotaBytes, Number.MAX_SAFE_INTEGER)) {
    throw invalid(`a quota of ${quotaBytes} bytes is not accepted: give at least 1, or none for no bound`);
  }
  const isPlain = defaultTtlMs === undefined && valueBytesMax === undefined && quotaBytes === undefined;
  const settings = isPlain
    ? undefined
    : {
        defaultTtl: durationOf(defaultTtlMs),
        valueBytesMax: BigInt(valueBytesMax ?? 0),
        quotaBytes: BigInt(quotaBytes ?? 0),
      };
  return { name: checkCreatedTable(name), settings, ifMissing };
}

// Answers

function ttlOf(ttl: Duration | undefined): number | null {
  if (!ttl) return null;
  const millis = Number(ttl.seconds) * 1000 + ttl.nanos / 1e6;
  if (millis < 0) throw new BadAnswer("a negative time to live");
  return millis;
}

function stampOf(clock: api.ClockValue | undefined): Stamp | null {
  if (!clock) return null;
  if (clock.node === "") throw new BadAnswer("a stamp without a node");
  return { epoch: clock.epoch, clock: clock.clock, node: clock.node };
}

function valueOf(key: string, entry: api.Entry): Value {
  if (entry.key !== key) {
    throw new BadAnswer(`asked for key ${JSON.stringify(key)}, got ${JSON.stringify(entry.key)}`);
  }
  return entry.content?.value ?? "";
}

/** The state of a key, from an answer to Get or one result of a batch. */
export function keyState(key: string, answer: api.GetResponse): KeyState {
  const { version } = answer;
  if (version === "") throw new BadAnswer("no version");
  const stamp = stampOf(answer.clock);
  if (!answer.entry) return { found: null, version, stamp };
  const found: Versioned = { value: valueOf(key, answer.entry), version, ttlMs: ttlOf(answer.ttl), stamp };
  return { found, version, stamp };
}

/** What a batch found of one key. */
export type GetResult = { readonly found: Versioned | null } | { readonly failure: NodeFailure };

export function batchFound(address: string, keys: readonly string[], answer: api.BatchGetResponse): GetResult[] {
  if (answer.results.length !== keys.length) {
    throw new BadAnswer(`${answer.results.length} results for ${keys.length} keys`);
  }
  return answer.results.map((result, index) => {
    if (result.error) return { failure: failureOfEntry(address, result.error) };
    return { found: keyState(keys[index] ?? "", result).found };
  });
}

/** An acknowledged write. An answer that cannot be read has an unknown outcome. */
export function acknowledged(
  address: string,
  answer: { clock: api.ClockValue | undefined; version: string },
): Acknowledged {
  return believed(address, () => {
    if (answer.version === "") throw new BadAnswer("OK without a version");
    return { version: answer.version, stamp: stampOf(answer.clock) };
  });
}

export function added(address: string, answer: api.AddResponse): Added {
  return believed(address, () => {
    if (answer.version === "") throw new BadAnswer("OK without a version");
    return { value: answer.value, version: answer.version };
  });
}

/** What `read` makes of the answer to a write. */
export function believed<T>(address: string, read: () => T): T {
  try {
    return read();
  } catch (problem) {
    if (!(problem instanceof BadAnswer)) throw problem;
    throw new OutcomeUnknownError({ address, message: problem.message, code: Code.UNKNOWN });
  }
}

export function listedOf(entry: api.ListedEntry): Listed {
  const value = entry.entry ? valueOf(entry.key, entry.entry) : null;
  return { key: entry.key, version: entry.version, value, ttlMs: ttlOf(entry.ttl) };
}

/** The event in a node's message; null if it only says that the node is there. */
export function eventOf(answer: api.WatchResponse): WatchEvent | null {
  const told = answer.event;
  switch (told?.$case) {
    case "ready":
      return { type: "ready" };
    case "reset":
      return { type: "reset" };
    case "deleted":
      return { type: "deleted", key: told.value.key, version: told.value.version };
    case "put": {
      const { key, version, entry, ttl } = told.value;
      return { type: "changed", key, version, value: entry ? valueOf(key, entry) : null, ttlMs: ttlOf(ttl) };
    }
    default:
      return null;
  }
}

export function tableOf(table: api.Table | undefined): TableInfo {
  if (!table || table.name === "") throw new BadAnswer("no table");
  return {
    name: table.name,
    id: table.id,
    isDropping: table.state === api.TableState.TABLE_DROPPING,
    defaultTtlMs: ttlOf(table.settings?.defaultTtl),
    valueBytesMax: Number(table.settings?.valueBytesMax ?? 0n) || null,
    quotaBytes: Number(table.settings?.quotaBytes ?? 0n) || null,
  };
}

const PEER_STATES = ["UNKNOWN", "LINKED", "UNREACHABLE", "REFUSED", "SELF"] as const;
const HEALTH_STATES = ["UNKNOWN", "ONLINE", "STARTING", "DEGRADED", "DRAINING", "REFUSED"] as const;

export function clusterInfo(answer: api.ClusterInfoResponse): ClusterInfo {
  const nodes = answer.storageNodes.map(({ id, address, state, slots, detail }) => ({
    id,
    address,
    state: PEER_STATES[Number(state)] ?? "UNKNOWN",
    slots,
    detail,
  }));
  return { nodeId: answer.nodeId, seed: answer.seed, replicaCount: Number(answer.replicationLevel), nodes };
}

export function nodeHealth({ nodeId, status, serves, detail, version }: api.HealthResponse): NodeHealth {
  return { nodeId, status: HEALTH_STATES[Number(status)] ?? "UNKNOWN", serves, detail, version };
}

// Failures

const REASONS = new Set([
  "NOT_APPLIED",
  "OUTCOME_UNKNOWN",
  "NO_QUORUM",
  "NOT_READY",
  "STORE_FAILED",
  "DAMAGED",
  "INVALID_ARGUMENT",
  "NOT_REPLICA",
  "STAMP_NOT_GREATER",
  "OPERATOR_WRITES_OFF",
  "CLOCK_RAISE_TOO_FAR",
  "CONDITION_FAILED",
  "NOT_A_NUMBER",
  "NO_SUCH_TABLE",
  "TABLE_EXISTS",
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
]);

/** Each reason is named, so that a reason added later is not taken for a refusal by accident. */
const REFUSALS = new Set([
  "INVALID_ARGUMENT",
  "NOT_REPLICA",
  "STAMP_NOT_GREATER",
  "OPERATOR_WRITES_OFF",
  "CLOCK_RAISE_TOO_FAR",
  "PERMISSION_DENIED",
]);

/** Without Quorate's own reason, only codes count that neither a broken connection nor a proxy produces. */
const REFUSAL_CODES = new Set([
  Code.INVALID_ARGUMENT,
  Code.FAILED_PRECONDITION,
  Code.UNIMPLEMENTED,
  Code.PERMISSION_DENIED,
  Code.UNAUTHENTICATED,
]);

/** The failure of a call. The status details have the node's reason. */
export function failureOf(address: string, error: ServiceError): NodeFailure {
  const info = errorInfo(error.metadata);
  const said = error.details || error.message;
  const failure: NodeFailure = { address, message: info ? said : explained(said), code: error.code };
  return info ? { ...failure, reason: info.reason, metadata: info.metadata } : failure;
}

const TLS_ALONE = "this node takes TLS alone: give tls, with the CA of the cluster";

/** What the library says of a connection that was not made, and what to do. */
function explained(message: string): string {
  if (message === "Protocol not secure enough") return TLS_ALONE;
  const bare = message.replace(/\s+/g, " ").replace(/ ?Resolution note: ?$/, "");
  return /wrong version number/.test(bare) ? `${bare}: the node speaks no TLS: leave tls out` : bare;
}

function errorInfo(metadata: Metadata | undefined): api.RpcErrorInfo | undefined {
  const [details] = metadata?.get("grpc-status-details-bin") ?? [];
  if (!(details instanceof Uint8Array)) return undefined;
  try {
    for (const detail of api.RpcStatus.decode(details).details) {
      if (!detail.typeUrl.endsWith("/google.rpc.ErrorInfo")) continue;
      const info = api.RpcErrorInfo.decode(detail.value);
      if (info.domain === "quorate" && REASONS.has(info.reason)) return info;
    }
  } catch {
    // What cannot be read says nothing.
  }
  return undefined;
}

interface EntryError {
  code: number;
  reason: string;
  message: string;
  version?: string;
  hasValue?: boolean;
}

export function failureOfEntry(address: string, error: EntryError): NodeFailure {
  const { code, reason, message, version, hasValue } = error;
  const failure: NodeFailure = { address, message, code: Code[code] === undefined ? Code.UNKNOWN : code };
  if (!REASONS.has(reason)) return failure;
  return version ? { ...failure, reason, metadata: { version, has_value: String(hasValue) } } : { ...failure, reason };
}

/** Judges a failed read. It has no effect, so another node may be tried unless the request itself was refused. */
export function judgeRead(failure: NodeFailure): QuorateError | TryNext {
  if (isOfCaller(failure)) return new TryNext(failure);
  return ofTable(failure) ?? (isRefusal(failure) ? new RefusedError(failure) : new TryNext(failure));
}

/** Judges what was said of a write that failed. `TryNext` only if it certainly did not happen. */
export function judgeWrite(failure: NodeFailure): QuorateError | TryNext {
  if (isOfCaller(failure)) return new TryNext(failure);
  if (failure.reason === "NOT_APPLIED" || failure.reason === "NOT_READY") {
    // With any other code the request itself is at fault, and fails alike when it is sent again.
    const isPassing = failure.code === Code.UNAVAILABLE || failure.code === Code.RESOURCE_EXHAUSTED;
    return isPassing ? new TryNext(failure) : new RefusedError(failure);
  }
  const table = ofTable(failure);
  if (table) return table;
  const version = failure.metadata?.["version"];
  if (version !== undefined && failure.reason === "CONDITION_FAILED") {
    return new ConditionFailedError(version, failure.metadata?.["has_value"] === "true");
  }
  if (version !== undefined && failure.reason === "NOT_A_NUMBER") return new NotANumberError(version);
  return isRefusal(failure) ? new RefusedError(failure) : new OutcomeUnknownError(failure);
}

/**
 * Whether it is the caller who can mend it, once all nodes say so: the node does not know who calls, or takes TLS alone. It has not
 * looked at the request, and another node may serve it.
 */
export function isOfCaller(failure: NodeFailure | undefined): boolean {
  return failure?.reason === "UNAUTHENTICATED" || (failure?.reason === undefined && failure?.message === TLS_ALONE);
}

function ofTable(failure: NodeFailure): QuorateError | undefined {
  if (failure.reason === "NO_SUCH_TABLE") return new NoSuchTableError(failure);
  if (failure.reason === "TABLE_EXISTS") return new TableExistsError(failure);
  return undefined;
}

function isRefusal(failure: NodeFailure): boolean {
  return failure.reason ? REFUSALS.has(failure.reason) : REFUSAL_CODES.has(failure.code);
}
