/** Plays the cases with the Node.js client: main.js FOLDER VARIANT. clients/README.md has the questions that it asks. */

import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import * as quorate from "../src/index.js";

// A case and what is found are JSON.
type Json = any;

/** Who starts nodes, disturbs them, and judges what was found. */
class Harness {
  private readonly lines = createInterface({ input: process.stdin });
  private readonly answers = this.lines[Symbol.asyncIterator]();
  private turn: Promise<unknown> = Promise.resolve();

  /** One question after the other. */
  ask(question: Json): Promise<Json> {
    const answer = this.turn.then(async () => {
      if (!process.stdout.write(`${JSON.stringify(question)}\n`)) await once(process.stdout, "drain");
      const { value, done } = await this.answers.next();
      if (done) throw new Error("nobody answers any more");
      return JSON.parse(value);
    });
    this.turn = answer.catch(() => undefined);
    return answer;
  }

  fault(fault: Json): Promise<Json> {
    return this.ask({ ask: "fault", fault: fault.fault, node: fault.node });
  }

  close(): void {
    this.lines.close();
  }
}

function valueIn(value: Json): quorate.Value {
  if (value.repeat !== undefined) return "x".repeat(value.repeat);
  return value.text ?? new Uint8Array(Buffer.from(value.base64, "base64"));
}

function valueOut(value: quorate.Value | null): Json {
  if (value === null) return null;
  if (typeof value !== "string") return { base64: Buffer.from(value).toString("base64") };
  return value.length < 1000 ? { text: value } : { repeat: value.length };
}

function foundOut(found: quorate.Versioned | null): Json {
  if (!found) return null;
  const { value, version, ttlMs, stamp } = found;
  return { value: valueOut(value), version, ttl_ms: ttlMs, has_stamp: stamp !== null };
}

function writtenOut({ version, stamp }: quorate.Acknowledged): Json {
  return { version, has_stamp: stamp !== null };
}

function errorOut(error: unknown): Json {
  if (!(error instanceof quorate.QuorateError)) throw error;
  const { kind, message } = error;
  const { version, hasValue, node } = error as Json;
  return { kind, message, version, has_value: hasValue, reason: node?.reason };
}

function eventOut(event: quorate.WatchEvent): Json {
  switch (event.type) {
    case "changed":
      return { set: event.key, version: event.version, value: valueOut(event.value) };
    case "deleted":
      return { deleted: event.key, version: event.version };
    default:
      return { [event.type]: true };
  }
}

function tableOut(table: quorate.TableInfo | null): Json {
  if (!table) return null;
  const { name, id, isDropping, defaultTtlMs, valueBytesMax, quotaBytes } = table;
  return {
    name,
    id,
    is_dropping: isDropping,
    default_ttl_ms: defaultTtlMs,
    value_bytes_max: valueBytesMax,
    quota_bytes: quotaBytes,
  };
}

/** Options without those that a step has not. */
function given(options: Json): Json {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

function writeOptions(step: Json): Json {
  const { if_version: ifVersion, if_absent: ifAbsent, if_present: ifPresent, ttl_ms: ttlMs, since } = step;
  return given({ ifVersion, ifAbsent, ifPresent, ttlMs, since });
}

/** What was acknowledged, and what may have happened. */
class Counter {
  acked = 0;
  unknown = 0;

  async count(work: Promise<unknown>): Promise<void> {
    try {
      await work;
      this.acked++;
    } catch (error) {
      if (!(error instanceof quorate.OutcomeUnknownError)) throw error;
      this.unknown++;
    }
  }

  result(final: number, errors: string[]): Json {
    const { acked, unknown } = this;
    return { holds: acked <= final && final <= acked + unknown, acked, unknown, final, errors };
  }
}

/** Plays one case, with a client of its own. */
class Player {
  private readonly saved = new Map<string, Json>();
  readonly client: quorate.Client;

  constructor(
    private readonly harness: Harness,
    private readonly one: Json,
    started: Json,
  ) {
    this.client = this.newClient(started);
  }

  /** A client of the addresses, with the token and the files that are given beside them. */
  private newClient(beside: Json): quorate.Client {
    const { addresses, ca_file: caFile, certificate_file: certificateFile, key_file: keyFile } = beside;
    const tls = given({ caFile, certificateFile, keyFile });
    const options = given({
      deadlineMs: this.one.deadline_ms,
      token: beside.token ?? this.one.token,
      tokenFile: beside.token_file,
      tls: Object.keys(tls).length > 0 ? tls : undefined,
    });
    return new quorate.Client({ addresses, ...options });
  }

  /** What is wrong, if anything is. */
  async play(): Promise<string | null> {
    for (const [index, written] of this.one.steps.entries()) {
      const step = this.fillIn(written);
      let found: Json;
      for (let time = 0; time < (step.workers ? 1 : (step.times ?? 1)); time++) {
        const began = performance.now();
        try {
          found = await this.do(step);
        } catch (error) {
          found = { error: errorOut(error) };
        }
        const took = performance.now() - began;
        const judged = await this.harness.ask({ ask: "judge", index, step, found, took_ms: took });
        if (judged.problem) return judged.problem;
      }
      for (const [name, member] of Object.entries(step.save ?? {})) this.saved.set(name, found[member as string]);
    }
    return null;
  }

  /** The step with what earlier ones have saved. */
  private fillIn(step: Json): Json {
    if (Array.isArray(step)) return step.map((value) => this.fillIn(value));
    if (step !== null && typeof step === "object") {
      return Object.fromEntries(Object.entries(step).map(([name, value]) => [name, this.fillIn(value)]));
    }
    return typeof step === "string" && step.startsWith("$") ? this.saved.get(step.slice(1)) : step;
  }

  private async do(step: Json): Promise<Json> {
    const client = step.table === undefined ? this.client : this.client.table(step.table);
    const key: string = typeof step.key === "object" ? "x".repeat(step.key.repeat) : step.key;
    switch (step.do) {
      case "client":
        this.newClient(step).close();
        return {};
      case "sleep":
        await sleep(step.ms);
        return {};
      case "fault":
        return this.harness.fault(step);
      case "calls":
        return this.harness.ask({ ask: "calls" });
      case "get": {
        const options = given({ atLeast: step.at_least, fromOneReplica: step.from_one_replica });
        return { found: foundOut(await client.get(key, options)) };
      }
      case "state": {
        const { found, version } = await client.state(key);
        return { found: foundOut(found), version };
      }
      case "set":
        return writtenOut(await client.set(key, valueIn(step.value), writeOptions(step)));
      case "delete":
        return writtenOut(await client.delete(key, writeOptions(step)));
      case "add": {
        const { value, version } = await client.add(key, BigInt(step.delta), writeOptions(step));
        return { value: String(value), version };
      }
      case "batch_get": {
        const results = await client.batchGet(step.keys);
        return {
          results: results.map((result) =>
            "found" in result ? { found: foundOut(result.found) } : { failure: { reason: result.failure.reason } },
          ),
        };
      }
      case "batch_write": {
        const writes: quorate.Write[] = step.writes.map((write: Json) =>
          write.do === "set"
            ? { set: write.key, value: valueIn(write.value), ...writeOptions(write) }
            : { delete: write.key, ...writeOptions(write) },
        );
        const results = await client.batchWrite(writes);
        return {
          results: results.map((result) =>
            result.ok ? writtenOut(result.written) : { error: errorOut(result.error) },
          ),
        };
      }
      case "update": {
        const change = (old: quorate.Versioned | null) => (step.append === null ? null : `${old?.value ?? ""}${step.append}`);
        return { written: (await client.update(key, change)) !== null };
      }
      case "list":
        return this.list(client, step);
      case "watch":
        return this.watch(client, step);
      case "table_create": {
        const { default_ttl_ms: defaultTtlMs, value_bytes_max: valueBytesMax, quota_bytes: quotaBytes } = step;
        const options = given({ defaultTtlMs, valueBytesMax, quotaBytes, ifMissing: step.if_missing });
        const { table, isNew } = await client.tables.create(step.name, options);
        return { is_new: isNew, table: tableOut(table) };
      }
      case "table_drop":
        await client.tables.drop(step.name);
        return {};
      case "table_get":
        return { table: tableOut(await client.tables.get(step.name)) };
      case "table_list":
        return { names: (await client.tables.list()).map((table) => table.name) };
      case "cluster_info": {
        const { seed, replicaCount, nodes } = await client.clusterInfo();
        return { seed, replica_count: replicaCount, ids: nodes.map((node) => node.id) };
      }
      case "health":
        return client.health();
      case "cancel":
        return this.cancel(step);
      case "count":
        return this.count(step);
      case "update_count":
        return this.updateCount(step);
      case "write_read":
        return this.writeRead(step);
      case "copy":
        return this.copy(step);
      case "fill":
        return this.fill(step);
      case "list_under_fault":
        return this.listUnderFault(step);
      default:
        throw new Error(`no step ${step.do}`);
    }
  }

  private async list(client: quorate.Client, step: Json): Promise<Json> {
    const options = given({ startAfter: step.start_after, limit: step.limit, values: step.values });
    const out: Json = { keys: [], values: [], error: null };
    try {
      for await (const listed of client.list(step.prefix, options)) {
        out.keys.push(listed.key);
        out.values.push(valueOut(listed.value));
      }
    } catch (error) {
      out.error = errorOut(error);
    }
    return out;
  }

  private async watch(client: quorate.Client, step: Json): Promise<Json> {
    const cursor = step.cursor_text ? Buffer.from(step.cursor_text) : Buffer.from(step.cursor ?? "", "base64");
    const options = { cursor, ...given({ values: step.values, withList: step.with_list }) };
    const watching = step.key === undefined ? client.watch(step.prefix, options) : client.watchKey(step.key, options);
    const out: Json = { events: [], error: null };
    try {
      while (out.events.length < step.take) {
        const { value, done } = await watching.next();
        if (done) break;
        out.events.push(eventOut(value));
      }
    } catch (error) {
      out.error = errorOut(error);
    }
    watching.close();
    if (step.sorted) {
      const kind = (event: Json) => ["deleted", "ready", "reset", "set"].findIndex((name) => name in event);
      out.events.sort((a: Json, b: Json) => kind(a) - kind(b));
    }
    out.cursor = Buffer.from(watching.cursor).toString("base64");
    out.cursor_text = Buffer.from(watching.cursor).toString();
    return out;
  }

  /** Aborts what waits. Nothing of it may be left. */
  private async cancel(step: Json): Promise<Json> {
    const out: Json = {};
    const works: Record<string, (signal: AbortSignal) => Promise<unknown>> = {
      get: (signal) => this.client.get("k", { signal }),
      set: async (signal) => {
        try {
          await this.client.set("k", "v", { ifVersion: "AAxx", signal });
        } catch (error) {
          if (error instanceof quorate.OutcomeUnknownError) throw error.cause;
          throw error;
        }
      },
      list: (signal) => this.client.list("", { signal }).collect(),
      watch: (signal) => this.client.watch("", { signal }).next(),
    };
    for (const [name, work] of Object.entries(works)) {
      const abort = new AbortController();
      const timer = setTimeout(() => abort.abort(), step.after_ms);
      out[name] = await work(abort.signal).then(
        () => "answered",
        (error) => (error === abort.signal.reason ? "cancelled" : `ended with ${error}`),
      );
      clearTimeout(timer);
    }
    this.client.close();
    // What was told to end does so in its next turn. Standard input and output remain.
    for (let turn = 0; turn < 100; turn++) {
      const left = process.getActiveResourcesInfo().filter((name) => !["PipeWrap", "TTYWrap", "Timeout"].includes(name));
      out.left = left.length;
      if (out.left === 0) break;
      await sleep(10);
    }
    return out;
  }

  /** Runs the workers while the faults of the step happen. Returns what they report as wrong. */
  private async loaded(step: Json, work: (worker: number, turn: number) => Promise<void>): Promise<string[]> {
    const errors: string[] = [];
    const disturb = async () => {
      for (const fault of step.faults ?? []) {
        await sleep(fault.after_ms ?? 0);
        await this.harness.fault(fault);
      }
    };
    const worker = async (number: number) => {
      for (let turn = 0; turn < step.times; turn++) {
        await work(number, turn).catch((error) => errors.push(String(error)));
        await sleep(step.pause_ms);
      }
    };
    await Promise.all([disturb(), ...Array.from({ length: step.workers }, (_, number) => worker(number))]);
    await this.harness.fault({ fault: "wait" });
    return errors;
  }

  private async final(key: string): Promise<number> {
    return Number((await this.client.get(key))?.value ?? Number.NaN);
  }

  private async count(step: Json): Promise<Json> {
    const counter = new Counter();
    const versions = new Map<number, string>();
    const errors = await this.loaded(step, async (worker) => {
      for (;;) {
        const since = versions.get(worker) ?? (await this.client.state(step.key)).version;
        versions.delete(worker);
        try {
          await counter.count(
            this.client.add(step.key, 1, { since }).then((added) => versions.set(worker, added.version)),
          );
          return;
        } catch (error) {
          if (!(error instanceof quorate.ConditionFailedError)) throw error;
          versions.set(worker, error.version);
        }
      }
    });
    return counter.result(await this.final(step.key), errors);
  }

  private async updateCount(step: Json): Promise<Json> {
    const counter = new Counter();
    const errors = await this.loaded(step, () =>
      counter.count(this.client.update(step.key, (old) => String(Number(old?.value ?? 0) + 1))),
    );
    return counter.result(await this.final(step.key), errors);
  }

  private async writeRead(step: Json): Promise<Json> {
    const counter = new Counter();
    const possible = new Map<number, Set<string | null>>();
    const errors = await this.loaded(step, async (worker, turn) => {
      const key = `${step.prefix}${worker}`;
      const values = possible.get(worker) ?? new Set([null]);
      possible.set(worker, values);
      const write = this.client.set(key, String(turn)).then(
        () => values.clear(),
        (error) => {
          if (error instanceof quorate.NotAppliedError) return;
          throw error;
        },
      );
      const before = counter.acked + counter.unknown;
      await counter.count(write);
      if (counter.acked + counter.unknown > before) values.add(String(turn));
      const seen = (await this.client.get(key))?.value ?? null;
      if (!values.has(seen as string | null)) throw new Error(`read ${seen}, one of ${[...values]} was written`);
    });
    return { holds: errors.length === 0, acked: counter.acked, unknown: counter.unknown, errors };
  }

  private async copy(step: Json): Promise<Json> {
    const copy = new Map<string, quorate.Value | null>();
    const end = `${step.prefix}end`;
    const watching = this.client.watch(step.prefix, { values: true, withList: true });
    let resets = 0;
    let tell = () => {};
    const told = new Promise<boolean>((resolve) => {
      tell = () => resolve(true);
    });
    const follow = async () => {
      for await (const event of watching) {
        if (event.type === "changed") copy.set(event.key, event.value);
        else if (event.type === "deleted") copy.delete(event.key);
        else if (event.type === "reset") {
          copy.clear();
          resets++;
        }
        if (copy.has(end)) tell();
      }
    };
    const following = follow().then(
      () => undefined,
      (error) => String(error),
    );
    const errors = await this.loaded(step, async (worker, turn) => {
      const key = `${step.prefix}${worker}:${turn % 20}`;
      try {
        await (turn % 5 === 4 ? this.client.delete(key) : this.client.set(key, `${worker} ${turn}`));
      } catch (error) {
        if (!(error instanceof quorate.OutcomeUnknownError)) throw error;
      }
    });
    await this.client.set(end, "end");
    const late = sleep(20_000, false, { ref: false });
    if (!(await Promise.race([told, following.then(() => false), late]))) errors.push("the watch did not tell the end");
    // Nothing is promised across keys: what is told of others may come after the end.
    let holds = false;
    let keys = 0;
    for (let turn = 0; turn < 100 && !holds; turn++) {
      const there = await this.client.list(step.prefix, { values: true }).collect();
      keys = there.length;
      holds = keys === copy.size && there.every((listed) => copy.get(listed.key) === listed.value);
      await sleep(50);
    }
    watching.close();
    const failed = await following;
    if (failed) errors.push(failed);
    return { holds, keys, resets, errors };
  }

  private async fill(step: Json): Promise<Json> {
    for (let first = 0; first < step.keys; first += 500) {
      const value = "x".repeat(step.bytes);
      const writes: quorate.Write[] = [];
      for (let number = first; number < Math.min(first + 500, step.keys); number++) {
        writes.push({ set: `${step.prefix}${String(number).padStart(5, "0")}`, value });
      }
      for (const result of await this.client.batchWrite(writes)) if (!result.ok) throw result.error;
    }
    return {};
  }

  private async listUnderFault(step: Json): Promise<Json> {
    const keys: string[] = [];
    for await (const listed of this.client.list(step.prefix, { values: true })) {
      keys.push(listed.key);
      if (keys.length !== step.after_keys) continue;
      for (const fault of step.faults) await this.harness.fault(fault);
    }
    const sorted = [...new Set(keys)].sort();
    return { count: keys.length, in_order: sorted.length === keys.length && sorted.every((key, at) => key === keys[at]) };
  }
}

const [folder = "", variant = ""] = process.argv.slice(2);
if (variant !== "" && variant !== "plain") throw new Error(`no variant ${variant}`);
const harness = new Harness();
for (const file of readdirSync(folder).sort()) {
  for (const one of JSON.parse(readFileSync(join(folder, file), "utf8"))) {
    const started = await harness.ask({ ask: "start", case: one });
    const player = new Player(harness, one, started);
    const problem = await player.play().catch((error) => String(error?.stack ?? error));
    player.client.close();
    await harness.ask({ ask: "end", case: one.case, problem });
  }
}
// Where a client left something behind, the process would not end.
harness.close();
