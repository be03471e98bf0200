/** Lists and watches, as asynchronous iterators that go on at another node where one fails. */

import { performance } from "node:perf_hooks";
import type * as api from "./api.js";
import { type NodeFailure, QuorateError, TryNext, UnavailableError } from "./errors.js";
import * as messages from "./messages.js";
import { LIST, type Method, type Stream, WATCH } from "./node.js";
import { Backoff, Operation, type Pool, sensible } from "./pool.js";
import type { WatchEvent, Listed } from "./types.js";

/** How long a watch may be silent: nodes send something every 10 s. */
const SILENCE_MS_MAX = 25_000;

/** How long a stream has failed for, and how long it waits before the next try. */
class Failing {
  private backoff = new Backoff();
  private since = performance.now();

  constructor(
    private readonly deadlineMs: number,
    private readonly signal: AbortSignal | undefined,
  ) {}

  heard(): void {
    this.backoff = new Backoff();
    this.since = performance.now();
  }

  /** Waits before the next try. Throws where the stream has failed for too long. */
  async wait(last: NodeFailure): Promise<void> {
    if (await this.backoff.wait(this.since + this.deadlineMs, this.signal)) return;
    this.signal?.throwIfAborted();
    throw new UnavailableError(last, performance.now() - this.since);
  }
}

/** A call that is made again, at another node, where one fails. */
class Calls<Q, A> {
  private stream: Stream<A> | undefined;
  readonly failing: Failing;

  constructor(
    private readonly pool: Pool,
    private readonly deadlineMs: number,
    private readonly method: Method<Q, A>,
    private readonly silenceMsMax: number,
    private readonly signal: AbortSignal | undefined,
  ) {
    this.failing = new Failing(deadlineMs, signal);
  }

  get isOpen(): boolean {
    return this.stream !== undefined;
  }

  /** What `parse` makes of the next answer; undefined where this call failed, and another one may be made. */
  async next<T>(request: Q, end: string, parse: (answer: A) => T): Promise<T | undefined> {
    let stream = this.stream;
    try {
      this.signal?.throwIfAborted();
      if (!stream) {
        const node = await this.pool.liveNode(new Operation(this.deadlineMs, this.signal));
        try {
          stream = await node.open(this.method, request, this.deadlineMs, this.signal);
        } catch (error) {
          if (error instanceof TryNext && !this.signal?.aborted) this.pool.avoid(node);
          throw error;
        }
        this.stream = stream;
      }
      const answer = await stream.next(this.silenceMsMax);
      if (answer === undefined) throw new TryNext(stream.node.failure(end));
      this.failing.heard();
      return sensible(stream.node, parse, answer);
    } catch (error) {
      this.drop();
      this.signal?.throwIfAborted();
      if (!(error instanceof TryNext)) throw error;
      if (stream) this.pool.avoid(stream.node);
      await this.failing.wait(error.failure);
      return undefined;
    }
  }

  drop(): void {
    this.stream?.cancel();
    this.stream = undefined;
  }
}

/** The keys of a list, one after the other. A page is asked for when it is wanted. */
export class Listing implements AsyncIterableIterator<Listed> {
  private readonly calls: Calls<api.ListRequest, api.ListResponse>;
  private page: Listed[] = [];
  private at = 0;
  private isDone: boolean;

  /** @internal */
  constructor(
    pool: Pool,
    deadlineMs: number,
    private readonly request: api.ListRequest,
    private left: number | undefined,
    signal: AbortSignal | undefined,
  ) {
    this.calls = new Calls(pool, deadlineMs, LIST, deadlineMs, signal);
    this.isDone = left === 0;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Listed, undefined>> {
    while (this.at >= this.page.length) {
      if (this.isDone) return { done: true, value: undefined };
      await this.nextPage();
    }
    const value = this.page[this.at++] as Listed;
    return { done: false, value };
  }

  private async nextPage(): Promise<void> {
    // The time that the reader takes does not count.
    this.calls.failing.heard();
    try {
      for (;;) {
        if (!this.calls.isOpen) this.request.limit = BigInt(this.left ?? 0);
        // A list that was not cut off has ended with a page without `next`.
        const page = await this.calls.next(this.request, "the list was cut off", (answer) => ({
          entries: answer.entries.map(messages.listedOf),
          next: answer.next,
        }));
        if (this.isDone) return;
        if (!page) continue;
        this.page = page.entries;
        this.at = 0;
        if (page.next !== undefined) this.request.startAfter = page.next;
        if (this.left !== undefined) this.left = Math.max(this.left - page.entries.length, 0);
        if (page.next === undefined || this.left === 0) this.end();
        return;
      }
    } catch (error) {
      // An error is the end.
      this.end();
      throw error;
    }
  }

  private end(): void {
    this.isDone = true;
    this.calls.drop();
  }

  /** Ends the list: a loop that is left calls it. */
  async return(): Promise<IteratorResult<Listed, undefined>> {
    this.close();
    return { done: true, value: undefined };
  }

  /** Ends the list. */
  close(): void {
    this.page = [];
    this.end();
  }

  /** Lists all keys at once. */
  async collect(): Promise<Listed[]> {
    const all: Listed[] = [];
    for await (const listed of this) all.push(listed);
    return all;
  }
}

/** The events of a watch, one after the other, until it is closed. */
export class Watching implements AsyncIterableIterator<WatchEvent> {
  private readonly calls: Calls<api.WatchRequest, api.WatchResponse>;
  private isDone = false;
  /** Whether the reader knows that changes are told: it is told once, and again after a reset. */
  private isReady = false;
  /** Whether something was told that a new beginning would contradict. */
  private hasTold = false;

  /** @internal */
  constructor(
    pool: Pool,
    deadlineMs: number,
    private readonly request: api.WatchRequest,
    signal: AbortSignal | undefined,
  ) {
    this.calls = new Calls(pool, deadlineMs, WATCH, SILENCE_MS_MAX, signal);
  }

  /** Where a later watch of the same keys goes on, after the event that was told last. Empty: there is nothing to go on with. */
  get cursor(): Uint8Array {
    return this.request.cursor;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<WatchEvent, undefined>> {
    // The time that the reader takes does not count.
    this.calls.failing.heard();
    try {
      while (!this.isDone) {
        if (!this.calls.isOpen && this.request.cursor.length === 0 && this.hasTold) {
          // Without a cursor a node begins anew. Keys that were told before may have changed in between.
          return this.tell({ type: "reset" });
        }
        const told = await this.calls.next(this.request, "the watch has ended", (answer) => ({
          event: messages.eventOf(answer),
          cursor: answer.cursor,
        }));
        if (!told || this.isDone) continue;
        this.request.cursor = told.cursor;
        // A watch that went on at another node has missed nothing, so that `ready` is no news then.
        if (told.event && !(told.event.type === "ready" && this.isReady)) return this.tell(told.event);
      }
    } catch (error) {
      if (this.isDone && error instanceof QuorateError) return { done: true, value: undefined };
      this.close();
      throw error;
    }
    return { done: true, value: undefined };
  }

  private tell(event: WatchEvent): IteratorResult<WatchEvent, undefined> {
    if (event.type === "reset") {
      this.isReady = this.hasTold = false;
    } else {
      this.isReady ||= event.type === "ready";
      this.hasTold = true;
    }
    return { done: false, value: event };
  }

  /** Ends the watch: a loop that is left calls it. */
  async return(): Promise<IteratorResult<WatchEvent, undefined>> {
    this.close();
    return { done: true, value: undefined };
  }

  /** Ends the watch. A loop that waits for an event ends too. */
  close(): void {
    this.isDone = true;
    this.calls.drop();
  }
}
