/**
 * The nodes of one cluster, and the rules by which an operation moves from one of them to the next.
 *
 * A read goes to one node after the other. A node that fails, or has not answered after the hedge delay, is avoided, and the next one
 * is asked too. The first answer counts. A write is sent to one node at a time, and to the next only while it certainly did not
 * happen. A write that takes effect once at most, however often it is sent, moves on as a read does.
 *
 * A paused node accepts a request as readily as a live one. Therefore a write, a list and a watch go without a question only to a
 * node that answered during the last second. Any other node is first asked for its health.
 *
 * A node that does not know the caller is passed over: it may not have heard of a new token yet. So is one that takes TLS alone, by a
 * client without it. Where all nodes say so, the operation ends at once.
 *
 * A write is given to the library only once there is a connection. So a failure before that proves that it was not sent. Any failure
 * after it that is not the node's own word leaves the outcome unknown.
 */

import { performance } from "node:perf_hooks";
import { status as Code } from "@grpc/grpc-js";
import * as api from "./api.js";
import {
  ConditionFailedError,
  InvalidInputError,
  type NodeFailure,
  NotANumberError,
  NotAppliedError,
  OutcomeUnknownError,
  type QuorateError,
  RefusedError,
  TryNext,
  UnavailableError,
} from "./errors.js";
import { BadAnswer, isOfCaller } from "./messages.js";
import { HEALTH, type Method, Node } from "./node.js";
import type { TokenSource } from "./security.js";
import type { Tls } from "./types.js";

/** How often an avoided node is asked for its health. */
const PROBE_INTERVAL_MS = 1000;
/** The hedge delay is this part of the operation's deadline, */
const HEDGE_DELAY_PART = 10;
/** but at least this: a loaded node may need as long for its disk, */
const HEDGE_DELAY_MS_MIN = 5;
/** and at most this. */
const HEDGE_DELAY_MS_MAX = 1000;
/** Before a write, a node's health is waited for this many hedge delays. */
const HEALTH_HEDGE_DELAYS = 3;

/** The times of one operation, all tries together, and what ends it early. */
export class Operation {
  readonly began = performance.now();
  readonly deadline: number;
  readonly hedgeDelayMs: number;

  constructor(
    timeMsMax: number,
    readonly signal?: AbortSignal,
  ) {
    this.deadline = this.began + timeMsMax;
    this.hedgeDelayMs = Math.min(Math.max(timeMsMax / HEDGE_DELAY_PART, HEDGE_DELAY_MS_MIN), HEDGE_DELAY_MS_MAX);
  }

  get leftMs(): number {
    return this.deadline - performance.now();
  }

  get isOver(): boolean {
    return this.signal?.aborted === true || this.leftMs <= 0;
  }

  get elapsedMs(): number {
    return performance.now() - this.began;
  }

  /** The signal's reason, if it ended the operation. */
  get cause(): unknown {
    return this.signal?.aborted ? this.signal.reason : undefined;
  }

  notApplied(last: NodeFailure): NotAppliedError {
    return new NotAppliedError(last, this.elapsedMs, this.cause);
  }
}

/** A random time between half of `millis` and all of it. */
function jittered(millis: number): number {
  return millis / 2 + (Math.random() * millis) / 2;
}

/** The waits of one operation, with jitter: clients that failed together must not come back together. */
export class Backoff {
  constructor(
    private nextMs = 10,
    private readonly longestMs = 500,
  ) {}

  /** Between tries that failed because another client succeeded. */
  static betweenContenders(): Backoff {
    return new Backoff(1, 64);
  }

  /** Waits before the next try. False, at once, where that would end after the deadline, and where the signal is aborted. */
  async wait(deadline: number, signal?: AbortSignal): Promise<boolean> {
    const wait = jittered(this.nextMs);
    this.nextMs = Math.min(2 * this.nextMs, this.longestMs);
    if (signal?.aborted || performance.now() + wait >= deadline) return false;
    return sleep(wait, signal);
  }
}

/** Waits, or until the signal is aborted. Whether all of the time has passed. */
function sleep(millis: number, signal?: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (isWhole: boolean) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", aborted);
      resolve(isWhole);
    };
    const aborted = () => end(false);
    const timer = setTimeout(() => end(true), millis);
    signal?.addEventListener("abort", aborted, { once: true });
  });
}

/** What ended one after the other, for one that waits. */
class Mailbox<T> {
  private readonly waiting: T[] = [];
  private wake: (() => void) | undefined;

  push(item: T): void {
    this.waiting.push(item);
    this.wake?.();
  }

  /** The next item; undefined after the time, and once the signal is aborted. */
  async next(millis: number, signal?: AbortSignal): Promise<T | undefined> {
    if (this.waiting.length === 0 && !signal?.aborted) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(end, Math.max(millis, 0));
        function end() {
          clearTimeout(timer);
          signal?.removeEventListener("abort", end);
          resolve();
        }
        signal?.addEventListener("abort", end, { once: true });
        this.wake = end;
      });
      this.wake = undefined;
    }
    return this.waiting.shift();
  }
}

type Ask<T> = (node: Node, signal: AbortSignal) => Promise<T>;

/** How a try ended. */
type End<T> = { node: Node; isResend: boolean } & ({ answer: T } | { error: unknown });

/** The nodes of a client. Copies of the client share it. */
export class Pool {
  readonly nodes: readonly Node[];
  /** Counts operations. It begins at a random number, so that many clients that live shortly spread over the nodes too. */
  private turn = Math.floor(Math.random() * 65536);
  private readonly probes = new Set<NodeJS.Timeout>();
  private readonly closing = new AbortController();

  constructor(addresses: readonly string[], tls: boolean | Tls | undefined, token: TokenSource | undefined) {
    if (!Array.isArray(addresses)) {
      throw new InvalidInputError('the addresses are no array: give them as new Client({ addresses: ["127.0.0.1:8001"] })');
    }
    if (addresses.length === 0) {
      throw new InvalidInputError("no address is given: name at least one node as host:port");
    }
    this.nodes = addresses.map((address) => new Node(address, tls, token));
  }

  close(): void {
    this.closing.abort(new Error("the client is closed"));
    for (const probe of this.probes) clearTimeout(probe);
    this.probes.clear();
    for (const node of this.nodes) node.close();
  }

  checkUse(): void {
    if (this.closing.signal.aborted) throw new Error("the client is closed");
  }

  /** Reads until a node answers or the deadline has passed. `parse` may throw `BadAnswer`. */
  async read<Q, A, T>(
    operation: Operation,
    method: Method<Q, A>,
    request: Q,
    parse: (answer: A, node: Node) => T,
  ): Promise<T> {
    const backoff = new Backoff();
    const ask = async (node: Node, signal: AbortSignal) =>
      sensible(node, parse, await node.ask(method, request, operation.leftMs, signal));
    for (;;) {
      try {
        const [, answer] = await this.race(this.nodesInTurn(), operation, ask);
        return answer;
      } catch (error) {
        operation.signal?.throwIfAborted();
        if (!(error instanceof TryNext)) throw error;
        if (await backoff.wait(operation.deadline, operation.signal)) continue;
        operation.signal?.throwIfAborted();
        throw new UnavailableError(error.failure, operation.elapsedMs);
      }
    }
  }

  /** Writes until a node answers, the outcome is unknown, or the deadline has passed. */
  async write<Q, A>(operation: Operation, method: Method<Q, A>, request: Q): Promise<[Node, A]> {
    const backoff = new Backoff();
    for (;;) {
      let last: NodeFailure | undefined;
      for (let tries = 0; tries < this.nodes.length; tries++) {
        let node: Node | undefined;
        try {
          node = await this.liveNode(operation);
          return [node, await this.send(operation, node, method, request, operation.signal)];
        } catch (error) {
          if (!(error instanceof TryNext)) throw withCause(operation, error);
          last = error.failure;
        }
        if (node === undefined || operation.isOver) break;
      }
      if (await backoff.wait(operation.deadline, operation.signal)) continue;
      throw operation.notApplied(last ?? NOBODY);
    }
  }

  /**
   * Writes until a node says what became of it, or the deadline has passed. Only for a write that takes effect once at most, however
   * often it is sent. `make` makes the request, and is told whether an earlier try may have arrived.
   */
  async writeUntilKnown<Q, A>(
    operation: Operation,
    method: Method<Q, A>,
    make: (isResend: boolean) => Q,
  ): Promise<[Node, A]> {
    const backoff = new Backoff();
    const ended = new Mailbox<End<A>>();
    const stop = new AbortController();
    const { signal } = operation;
    const abort = () => stop.abort(signal?.reason);
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    // The tries under way, and those that may have taken effect: these, and those whose end says nothing.
    let running = 0;
    let open = 0;
    let failed = 0;
    let last: NodeFailure | undefined;
    let unknown: NodeFailure | undefined;
    let declined: QuorateError | undefined;
    let isEnding = false;
    try {
      for (;;) {
        // A further try goes out when the one before has failed or the hedge delay has passed.
        if (running < this.nodes.length && !isEnding) {
          try {
            const node = await this.liveNode(operation);
            const isResend = open > 0;
            open++;
            running++;
            this.send(operation, node, method, make(isResend), stop.signal).then(
              (answer) => ended.push({ node, isResend, answer }),
              (error: unknown) => ended.push({ node, isResend, error }),
            );
          } catch (error) {
            if (error instanceof TryNext) last = error.failure;
            else if (error instanceof RefusedError && open > 0) last = error.node;
            else throw error;
            failed = this.nodes.length;
          }
        }
        if (running > 0) {
          // Tries that are told to stop say so at once: they are waited for.
          const end = await ended.next(operation.hedgeDelayMs, isEnding ? undefined : signal);
          if (!end && !operation.isOver) continue;
          if (end) {
            running--;
            if ("answer" in end) return [end.node, end.answer];
            const { error, isResend } = end;
            if (error instanceof TryNext) {
              open--;
              failed++;
              last = error.failure;
            } else if (error instanceof OutcomeUnknownError) {
              // A node that looked for an earlier try and cannot know more: nor can another one.
              const { node } = error;
              if (isResend && node.reason === "OUTCOME_UNKNOWN" && node.code === Code.DEADLINE_EXCEEDED) throw error;
              failed++;
              unknown = node;
            } else if (error instanceof ConditionFailedError || error instanceof NotANumberError) {
              // The answer to a resend speaks of all tries, and that to a first try of this one alone.
              if (isResend || open === 1) throw error;
              open--;
              failed++;
              declined = error;
            } else if (error instanceof RefusedError && open > 1) {
              open--;
              failed++;
              last = error.node;
            } else {
              throw error;
            }
          }
        }
        isEnding ||= operation.isOver;
        if (!isEnding && failed >= this.nodes.length) {
          failed = 0;
          isEnding = !(await backoff.wait(operation.deadline, signal));
        }
        if (isEnding && running === 0) {
          if (open > 0) throw new OutcomeUnknownError(unknown ?? last ?? NOBODY, operation.cause);
          if (declined) throw declined;
          throw operation.notApplied(last ?? NOBODY);
        }
      }
    } finally {
      signal?.removeEventListener("abort", abort);
      stop.abort();
    }
  }

  /** Sends a write to a node, once. Throws `TryNext` only if the write certainly did not happen. */
  private async send<Q, A>(
    operation: Operation,
    node: Node,
    method: Method<Q, A>,
    request: Q,
    signal: AbortSignal | undefined,
  ): Promise<A> {
    // This write can then only wait for its answer. Later writes need not wait behind it.
    const timer = setTimeout(() => this.avoid(node), operation.hedgeDelayMs);
    try {
      const answer = await node.sendOnce(method, request, operation.leftMs, signal);
      node.recordAnswer();
      return answer;
    } catch (error) {
      // The node answered. That it refuses is the write's own fault.
      if (error instanceof ConditionFailedError || error instanceof NotANumberError) node.recordAnswer();
      else if (!(error instanceof RefusedError) && !signal?.aborted) this.avoid(node);
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** The node for a write or a stream: the next in turn if it answered recently, else the first in good health. */
  async liveNode(operation: Operation): Promise<Node> {
    this.checkUse();
    const nodes = this.nodesInTurn();
    const [first] = nodes;
    if (first?.answeredRecently) return first;
    // A single node has no substitute, so its health may take until the deadline.
    const until =
      nodes.length === 1
        ? operation.deadline
        : Math.min(operation.deadline, performance.now() + HEALTH_HEDGE_DELAYS * operation.hedgeDelayMs);
    let degraded: Node | undefined;
    try {
      const [node] = await this.race(nodes, operation, async (node, signal) => {
        const health = await node.ask(HEALTH, {}, until - performance.now(), signal);
        if (health.status === api.Health.ONLINE || health.status === api.Health.DEFAULT) return;
        if (health.status === api.Health.DEGRADED) degraded ??= node;
        const problem = PROBLEMS[health.status] ?? "the node does not serve";
        throw new TryNext(node.failure(health.detail ? `${problem}: ${health.detail}` : problem));
      });
      return node;
    } catch (error) {
      // A degraded node is better than none: with a full disk of its own it still coordinates writes to others.
      if (degraded) return degraded;
      throw error;
    }
  }

  /**
   * Asks `nodes` in their order until one answers or all have failed. The next node is asked when the one before fails or the hedge
   * delay has passed. Only for requests without an effect: several nodes may execute them.
   */
  private async race<T>(nodes: Node[], operation: Operation, ask: Ask<T>): Promise<[Node, T]> {
    this.checkUse();
    const waiting = [...nodes];
    const ended = new Mailbox<End<T>>();
    const stop = new AbortController();
    const { signal } = operation;
    let running = 0;
    let asked: Node | undefined;
    let last: NodeFailure | undefined;
    let allOfCaller = true;
    try {
      for (;;) {
        const next = waiting.shift();
        if (next) {
          asked = next;
          running++;
          ask(next, stop.signal).then(
            (answer) => ended.push({ node: next, isResend: false, answer }),
            (error: unknown) => ended.push({ node: next, isResend: false, error }),
          );
        } else if (running === 0) {
          if (last && allOfCaller) throw new RefusedError(last);
          throw new TryNext(last ?? NOBODY);
        }
        const end = await ended.next(next ? operation.hedgeDelayMs : operation.leftMs + SPARE_MS, signal);
        if (signal?.aborted) throw new TryNext(asked?.failure("the operation was aborted", Code.CANCELLED) ?? NOBODY);
        if (!end) {
          if (asked) this.avoid(asked);
          continue;
        }
        running--;
        if ("answer" in end) {
          end.node.recordAnswer();
          return [end.node, end.answer];
        }
        if (!(end.error instanceof TryNext)) throw end.error;
        this.avoid(end.node);
        const { failure } = end.error;
        allOfCaller &&= isOfCaller(failure);
        // What the caller can mend comes before the failure of another node.
        if (isOfCaller(failure) || !isOfCaller(last)) last = failure;
      }
    } finally {
      stop.abort();
    }
  }

  /** All nodes: in turn, avoided ones last. */
  private nodesInTurn(): Node[] {
    const turn = this.turn++ % this.nodes.length;
    const nodes = [...this.nodes.slice(turn), ...this.nodes.slice(0, turn)];
    return nodes.sort((a, b) => Number(a.isAvoided) - Number(b.isAvoided));
  }

  /** Makes other operations prefer other nodes, until the node says that it serves. */
  avoid(node: Node): void {
    if (node.avoid()) this.probeLater(node);
  }

  private probeLater(node: Node): void {
    if (this.closing.signal.aborted) return;
    const timer = setTimeout(() => {
      this.probes.delete(timer);
      if (!node.isAvoided) return;
      node.ask(HEALTH, {}, PROBE_INTERVAL_MS, this.closing.signal).then(
        (health) => (health.serves ? node.recordAnswer() : this.probeLater(node)),
        () => this.probeLater(node),
      );
    }, jittered(PROBE_INTERVAL_MS));
    // A process may end meanwhile.
    timer.unref();
    this.probes.add(timer);
  }
}

/** Calls end by themselves at the deadline. This is for one that does not. */
const SPARE_MS = 1000;

const NOBODY: NodeFailure = { address: "client", message: "no node was asked", code: Code.UNKNOWN };

const PROBLEMS: Partial<Record<api.Health, string>> = {
  [api.Health.STARTING]: "the node is starting, or waits for the other nodes",
  [api.Health.DEGRADED]: "the node is degraded",
  [api.Health.DRAINING]: "the node is ending",
  [api.Health.REFUSED]: "the node is refused by its peers",
};

/** What `parse` makes of an answer. An answer that makes no sense is a failure of its node. */
export function sensible<A, T>(node: Node, parse: (answer: A, node: Node) => T, answer: A): T {
  try {
    return parse(answer, node);
  } catch (problem) {
    throw problem instanceof BadAnswer ? new TryNext(node.failure(problem.message)) : problem;
  }
}

/** The error, with the reason of the signal if that ended a write whose outcome is unknown. */
function withCause(operation: Operation, error: unknown): unknown {
  const { cause } = operation;
  return error instanceof OutcomeUnknownError && cause !== undefined ? new OutcomeUnknownError(error.node, cause) : error;
}
