import { performance } from "node:perf_hooks";
import * as api from "./api.js";
import {
  ConditionFailedError,
  InvalidInputError,
  NotAppliedError,
  OutcomeUnknownError,
  QuorateError,
  RefusedError,
  TryNext,
} from "./errors.js";
import * as messages from "./messages.js";
import * as methods from "./node.js";
import { Backoff, Operation, Pool } from "./pool.js";
import { tokenSource } from "./security.js";
import { Listing, Watching } from "./streams.js";
import { Tables } from "./tables.js";
import type {
  Abortable,
  Acknowledged,
  Added,
  AddOptions,
  ClientOptions,
  ClusterInfo,
  DeleteOptions,
  GetOptions,
  KeyState,
  ListOptions,
  NodeHealth,
  SetOptions,
  Value,
  Versioned,
  WatchOptions,
  Write,
} from "./types.js";

const DEADLINE_MS_DEFAULT = 5000;
const DEADLINE_MS_MIN = 1;
const DEADLINE_MS_MAX = 60_000;

/** What became of one write of a batch. */
export type WriteResult =
  | { readonly ok: true; readonly written: Acknowledged }
  | { readonly ok: false; readonly error: QuorateError };

/** What is asked for the new value of a key. */
export type Change = (old: Versioned | null) => Value | null | Promise<Value | null>;

type Resendable = api.SetRequest | api.DeleteRequest | api.AddRequest;

function clamped(deadlineMs: number): number {
  if (Number.isNaN(deadlineMs)) throw new InvalidInputError("the deadline is no number of milliseconds");
  return Math.min(Math.max(deadlineMs, DEADLINE_MS_MIN), DEADLINE_MS_MAX);
}

/**
 * A client of one cluster. It connects on first use.
 *
 * ```ts
 * const client = new Client({ addresses: ["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"] });
 * await client.set("greeting", "hello");
 * console.log((await client.get("greeting"))?.value);
 * client.close();
 * ```
 */
export class Client {
  private readonly pool: Pool;
  private readonly deadlineMs: number;
  private readonly tableName: string;

  /** @throws {InvalidInputError} If there is no address, an address does not parse, or a file of an option cannot be read. */
  constructor(options: ClientOptions);
  /** @internal */
  constructor(options: { pool: Pool; deadlineMs: number; table: string });
  constructor(options: ClientOptions | { pool: Pool; deadlineMs: number; table: string }) {
    if (typeof options !== "object" || options === null) throw new InvalidInputError("the options of a client are no object");
    if ("pool" in options) {
      this.pool = options.pool;
      this.tableName = options.table;
    } else {
      this.pool = new Pool(options.addresses, options.tls, tokenSource(options.token, options.tokenFile));
      this.tableName = "";
    }
    this.deadlineMs = clamped(options.deadlineMs ?? DEADLINE_MS_DEFAULT);
  }

  /** Closes the connections. Clients that share them are closed too. */
  close(): void {
    this.pool.close();
  }

  /** The same client with another deadline: 1 ms to 60 s. The connections are shared. */
  withDeadline(deadlineMs: number): Client {
    return new Client({ pool: this.pool, deadlineMs, table: this.tableName });
  }

  /**
   * The same client bound to another table: all that it reads, writes, lists and watches is there. The connections are shared. The
   * table must exist: `client.tables.create` makes it.
   *
   * @throws {InvalidInputError} If it is no name of a table.
   */
  table(name: string): Client {
    return new Client({ pool: this.pool, deadlineMs: this.deadlineMs, table: messages.checkTable(name) });
  }

  /** Creates, drops and lists tables. */
  get tables(): Tables {
    return new Tables(this.pool, this.deadlineMs);
  }

  private begin(options: Abortable | undefined): Operation {
    return new Operation(this.deadlineMs, options?.signal);
  }

  /**
   * Reads the latest value of `key`: null if the key has none.
   *
   * Rejects with `InvalidInputError`, `UnavailableError`, `NoSuchTableError` or `RefusedError`.
   */
  async get(key: string, options?: GetOptions): Promise<Versioned | null> {
    return (await this.state(key, options)).found;
  }

  /** Reads the state of `key`: its value if it has one, and its version in any case. Rejects as `get`. */
  async state(key: string, options: GetOptions = {}): Promise<KeyState> {
    const { fromOneReplica, atLeast } = options;
    const isOne = fromOneReplica === true || atLeast !== undefined;
    const request: api.GetRequest = {
      key: messages.checkKey(key),
      table: this.tableName,
      consistency: isOne ? api.Consistency.ONE : api.Consistency.LINEARIZABLE,
      atLeast: atLeast === undefined ? undefined : messages.checkVersion(atLeast),
    };
    return this.pool.read(this.begin(options), methods.GET, request, (answer) => messages.keyState(key, answer));
  }

  /**
   * Reads the latest values of 1 to 1,000 keys, each linearizably and on its own. The results have the order of the keys: what was
   * found, or the failure that says why the key was not read. Rejects as `get`, if no key was read.
   */
  async batchGet(keys: Iterable<string>, options?: Abortable): Promise<messages.GetResult[]> {
    if (typeof keys === "string") throw new InvalidInputError("the keys are a string: give an array of strings");
    const names = [...keys].map(messages.checkKey);
    const request = { keys: names, table: this.tableName };
    return this.pool.read(this.begin(options), methods.BATCH_GET, request, (answer, node) =>
      messages.batchFound(node.address, names, answer),
    );
  }

  /**
   * Writes `value` under `key`. A majority of the key's replicas then has it on disk.
   *
   * Rejects with `InvalidInputError`, `NotAppliedError`, `OutcomeUnknownError`, `NoSuchTableError` or `RefusedError`; with a condition,
   * with `ConditionFailedError`.
   */
  async set(key: string, value: Value, options: SetOptions = {}): Promise<Acknowledged> {
    const { request, mayBeResent } = messages.setRequest(this.tableName, key, value, options);
    const [node, answer] = await this.send(this.begin(options), methods.SET, request, mayBeResent);
    return messages.acknowledged(node.address, answer);
  }

  /** Removes the value of `key`, if it has one. The conditions and rejections are those of `set`. */
  async delete(key: string, options: DeleteOptions = {}): Promise<Acknowledged> {
    const { request, mayBeResent } = messages.deleteRequest(this.tableName, key, options);
    const [node, answer] = await this.send(this.begin(options), methods.DELETE, request, mayBeResent);
    return messages.acknowledged(node.address, answer);
  }

  /**
   * Adds `delta` to the number of `key`, and returns the sum. A key without a value counts as 0.
   *
   * Without `since`, an addition whose node dies may end with `OutcomeUnknownError`: sent again, it could count twice. With it, the
   * client sends it again, and it counts once. Rejects as `set`, and with `NotANumberError`.
   */
  async add(key: string, delta: number | bigint = 1, options: AddOptions = {}): Promise<Added> {
    const { request, mayBeResent } = messages.addRequest(this.tableName, key, delta, options);
    const [node, answer] = await this.send(this.begin(options), methods.ADD, request, mayBeResent);
    return messages.added(node.address, answer);
  }

  /** Sends a write: again and again until its outcome is known, if it may be resent. */
  private async send<Q extends Resendable, A>(
    operation: Operation,
    method: methods.Method<Q, A>,
    request: Q,
    mayBeResent: boolean,
    isResend = false,
  ): Promise<[methods.Node, A]> {
    if (!mayBeResent) return this.pool.write(operation, method, request);
    const again = { ...request, resend: true };
    return this.pool.writeUntilKnown(operation, method, (resend) => (resend || isResend ? again : request));
  }

  /**
   * Changes a value depending on what it is: reads the key, asks `change` for the new value, and writes that if the key has not changed
   * meanwhile. If it has, all is done again, until the deadline. null from `change` leaves the key alone, and the result is then null.
   *
   * `change` may be called several times. The change takes effect once at most. Rejects as `get` and `set`, and with
   * `ConditionFailedError` if others changed the key each time, until the deadline.
   */
  async update(key: string, change: Change, options: Abortable = {}): Promise<Acknowledged | null> {
    const deadline = performance.now() + this.deadlineMs;
    const left = () => this.withDeadline(deadline - performance.now());
    const backoff = Backoff.betweenContenders();
    for (;;) {
      const { found, version } = await left().state(key, options);
      const value = await change(found);
      if (value === null) return null;
      try {
        // The version holds for one change only, so that this one is not made twice, however often it is sent.
        return await left().set(key, value, { ...options, ifVersion: version });
      } catch (error) {
        if (!(error instanceof ConditionFailedError)) throw error;
        if (!(await backoff.wait(deadline, options.signal))) {
          options.signal?.throwIfAborted();
          throw error;
        }
      }
    }
  }

  /**
   * Writes and deletes 1 to 1,000 keys in one call: each on its own, in no order, with an outcome of its own. The results have the order
   * of the writes. The values of one batch have 60 MiB together at most.
   *
   * A write that certainly did not happen is sent again until the deadline, as is one that names a version. Rejects as `set`, if no key
   * was written, and with `InvalidInputError` where two writes are for one key.
   */
  async batchWrite(writes: Iterable<Write>, options?: Abortable): Promise<WriteResult[]> {
    const entries = [...writes].map((write) => this.entryOf(write));
    if (entries.length === 0 || entries.length > messages.BATCH_KEYS_MAX) {
      throw new InvalidInputError(
        `the batch has ${entries.length} writes: 1 to ${messages.BATCH_KEYS_MAX} are accepted`,
      );
    }
    const places = new Set<string>();
    for (const { table, key } of entries) {
      const place = `${table}/${key}`;
      if (places.has(place)) {
        const name = JSON.stringify(key);
        throw new InvalidInputError(`two writes of the batch are for key ${name}: write it once, or in two batches`);
      }
      places.add(place);
    }
    const operation = this.begin(options);
    const results = new Map<Entry, WriteResult>();
    const backoff = new Backoff();
    let left = entries;
    for (;;) {
      const notApplied: Entry[] = [];
      try {
        const request = { entries: left.map(({ entry }) => entry), table: "" };
        const [node, answer] = await this.pool.write(operation, methods.BATCH_WRITE, request);
        messages.believed(node.address, () => {
          if (answer.results.length === left.length) return;
          throw new messages.BadAnswer(`${answer.results.length} results for ${left.length} writes`);
        });
        left.forEach((entry, index) => {
          const outcome = batchOutcome(node, answer.results[index]);
          if (outcome instanceof TryNext) {
            notApplied.push(entry);
            results.set(entry, { ok: false, error: operation.notApplied(outcome.failure) });
          } else {
            results.set(entry, outcome);
          }
        });
      } catch (error) {
        if (!(error instanceof QuorateError)) throw error;
        if (left.length === entries.length && !(error instanceof OutcomeUnknownError)) throw error;
        // Some entries of an earlier call may be written.
        for (const entry of left) results.set(entry, { ok: false, error });
      }
      if (notApplied.length === 0 || !(await backoff.wait(operation.deadline, operation.signal))) break;
      left = notApplied;
    }
    const done: WriteResult[] = [];
    for (const entry of entries) {
      const result = results.get(entry);
      if (!result) throw new Error("each entry has an outcome once none is left");
      const isOpen = !result.ok && result.error instanceof OutcomeUnknownError;
      done.push(isOpen && entry.mayBeResent && !operation.isOver ? await this.findOut(operation, entry) : result);
    }
    return done;
  }

  private entryOf(write: Write): Entry {
    const table = write.table === undefined ? this.tableName : messages.checkTable(write.table);
    if ("set" in write) {
      const { request, mayBeResent } = messages.setRequest(table, write.set, write.value, write);
      return { table, key: write.set, entry: { write: { $case: "set", value: request } }, mayBeResent };
    }
    const { request, mayBeResent } = messages.deleteRequest(table, write.delete, write);
    return { table, key: write.delete, entry: { write: { $case: "delete", value: request } }, mayBeResent };
  }

  /** Sends an entry again whose outcome is unknown, until it is known. It takes effect once at most. */
  private async findOut(operation: Operation, { entry: { write } }: Entry): Promise<WriteResult> {
    try {
      const [node, answer] =
        write?.$case === "set"
          ? await this.send(operation, methods.SET, write.value, true, true)
          : await this.send(operation, methods.DELETE, (write as { value: api.DeleteRequest }).value, true, true);
      return { ok: true, written: messages.acknowledged(node.address, answer) };
    } catch (error) {
      // The batch may have written it, whatever became of these tries.
      if (error instanceof NotAppliedError || error instanceof RefusedError) {
        return { ok: false, error: new OutcomeUnknownError(error.node, error.cause) };
      }
      if (error instanceof QuorateError) return { ok: false, error };
      throw error;
    }
  }

  /**
   * Lists the keys that have a value and begin with `prefix`, in the order of their bytes. The list goes on at another node where one
   * fails. Each key is read linearizably, at some moment of the list: a list is not one moment of the cluster.
   *
   * ```ts
   * for await (const user of client.list("user:", { values: true })) console.log(user.key, user.value);
   * ```
   *
   * Reading it rejects with `UnavailableError` where no node goes on with it until the deadline has passed, which begins anew with each
   * page. What was told before holds.
   */
  list(prefix = "", options: ListOptions = {}): Listing {
    const { startAfter = "", limit, values = false } = options;
    if (limit !== undefined && !(Number.isSafeInteger(limit) && limit >= 0)) {
      throw new InvalidInputError(`a limit of ${limit} keys is not accepted: give 0 or more, or none`);
    }
    const request: api.ListRequest = {
      table: this.tableName,
      prefix: messages.checkPrefix("prefix", prefix),
      startAfter: messages.checkPrefix("key to start after", startAfter),
      limit: 0n,
      values,
    };
    return new Listing(this.pool, this.deadlineMs, request, limit, options.signal);
  }

  /**
   * Tells the changes of all keys that begin with `prefix`, until the watch is closed. It goes on at another node where one fails, and
   * misses nothing.
   *
   * ```ts
   * for await (const event of client.watch("user:", { values: true, withList: true })) console.log(event);
   * ```
   *
   * Of every write that is called after `ready`, the watch tells that value or a later one of its key. Changes of one key come in the
   * order in which they happened. A change may be told twice, with the same version.
   */
  watch(prefix = "", options: WatchOptions = {}): Watching {
    return this.watching({ $case: "prefix", value: messages.checkPrefix("prefix", prefix) }, options);
  }

  /** Tells the changes of one key, as `watch`. */
  watchKey(key: string, options: WatchOptions = {}): Watching {
    return this.watching({ $case: "key", value: messages.checkKey(key) }, options);
  }

  private watching(keys: NonNullable<api.WatchRequest["keys"]>, options: WatchOptions): Watching {
    const { cursor = new Uint8Array(), values = false, withList = false } = options;
    const request: api.WatchRequest = { keys, table: this.tableName, cursor, values, withList };
    return new Watching(this.pool, this.deadlineMs, request, options.signal);
  }

  /** Reads the cluster's nodes and parameters, as the first node that answers sees them. */
  async clusterInfo(options?: Abortable): Promise<ClusterInfo> {
    return this.pool.read(this.begin(options), methods.INFO, {}, messages.clusterInfo);
  }

  /** Reads the health of the first node that answers. With one address, that is the health of this node. */
  async health(options?: Abortable): Promise<NodeHealth> {
    return this.pool.read(this.begin(options), methods.HEALTH, {}, messages.nodeHealth);
  }
}

/** A write of a batch. */
interface Entry {
  readonly table: string;
  readonly key: string;
  readonly entry: api.BatchWriteEntry;
  readonly mayBeResent: boolean;
}

/** The outcome of an entry; `TryNext` if it certainly did not happen. */
function batchOutcome(node: methods.Node, result: api.BatchWriteResult | undefined): WriteResult | TryNext {
  try {
    if (!result) throw new Error("the results were counted");
    if (!result.error) return { ok: true, written: messages.acknowledged(node.address, result) };
    const verdict = messages.judgeWrite(messages.failureOfEntry(node.address, result.error));
    return verdict instanceof TryNext ? verdict : { ok: false, error: verdict };
  } catch (error) {
    if (error instanceof QuorateError) return { ok: false, error };
    throw error;
  }
}
