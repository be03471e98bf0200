/** One node as the client sees it: its connection, and whether it answered recently. */

import { performance } from "node:perf_hooks";
import {
  type ChannelCredentials,
  Client as Channel,
  type ClientReadableStream,
  connectivityState,
  credentials,
  Metadata,
  type ServiceError,
  status as Code,
} from "@grpc/grpc-js";
import * as api from "./api.js";
import { InvalidInputError, type NodeFailure, RefusedError, TryNext } from "./errors.js";
import { failureOf, judgeRead, judgeWrite } from "./messages.js";
import { isThisMachine, partsOf, type TokenSource } from "./security.js";
import type { Tls } from "./types.js";

/** How long an answer counts as recent. */
const RECENT_MS_MAX = 1000;
const MESSAGE_BYTES_MAX = 64 << 20;

const OPTIONS = {
  // The library would send again what may have happened.
  "grpc.enable_retries": 0,
  "grpc.service_config_disable_resolution": 1,
  "grpc.enable_http_proxy": 0,
  "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
  "grpc.max_send_message_length": -1,
  // A cut that TCP does not report is found within seconds.
  "grpc.keepalive_time_ms": 5_000,
  "grpc.keepalive_timeout_ms": 2_000,
  "grpc.keepalive_permit_without_calls": 1,
  // A node that comes back is found within a second.
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1_000,
  // Two clients of one process share no connection, nor its backoff.
  "grpc.use_local_subchannel_pool": 1,
  // With HTTP/2's default window a large value would cost a round trip for every 64 KiB.
  "grpc-node.flow_control_window": 4 << 20,
} as const;

interface Codec<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

/** A method of the API. Its path is that of the wire, whatever the client's messages are called. */
export class Method<Q, A> {
  readonly serialize: (request: Q) => Buffer;
  readonly parse: (bytes: Buffer) => A;

  constructor(
    readonly path: string,
    request: Codec<Q>,
    answer: Codec<A>,
  ) {
    this.serialize = (message) => Buffer.from(request.encode(message).finish());
    this.parse = (bytes) => answer.decode(bytes);
  }
}

export const INFO = new Method("/api.Cluster/Info", api.ClusterInfoRequest, api.ClusterInfoResponse);
export const GET = new Method("/api.Cluster/Get", api.GetRequest, api.GetResponse);
export const BATCH_GET = new Method("/api.Cluster/BatchGet", api.BatchGetRequest, api.BatchGetResponse);
export const LIST = new Method("/api.Cluster/List", api.ListRequest, api.ListResponse);
export const SET = new Method("/api.Cluster/Set", api.SetRequest, api.SetResponse);
export const DELETE = new Method("/api.Cluster/Delete", api.DeleteRequest, api.DeleteResponse);
export const WATCH = new Method("/api.Cluster/Watch", api.WatchRequest, api.WatchResponse);
export const BATCH_WRITE = new Method("/api.Cluster/BatchWrite", api.BatchWriteRequest, api.BatchWriteResponse);
export const ADD = new Method("/api.Cluster/Add", api.AddRequest, api.AddResponse);
export const TABLE_CREATE = new Method("/api.Tables/Create", api.TableCreateRequest, api.TableCreateResponse);
export const TABLE_GET = new Method("/api.Tables/Get", api.TableGetRequest, api.TableGetResponse);
export const TABLE_LIST = new Method("/api.Tables/List", api.TableListRequest, api.TableListResponse);
export const TABLE_DROP = new Method("/api.Tables/Drop", api.TableDropRequest, api.TableDropResponse);
export const HEALTH = new Method("/api.Node/Health", api.HealthRequest, api.HealthResponse);

export class Node {
  private readonly channel: Channel;
  private answeredAt: number | undefined;
  isAvoided = false;

  constructor(
    readonly address: string,
    tls: boolean | Tls | undefined,
    private readonly token: TokenSource | undefined,
  ) {
    const { target, isEncrypted } = parseAddress(address, Boolean(tls), token !== undefined);
    const given: Tls = typeof tls === "object" ? tls : {};
    const { ca, certificate, key } = partsOf(given);
    const { serverName } = given;
    const secrets = isEncrypted ? ssl(ca, key, certificate) : credentials.createInsecure();
    const named = serverName === undefined ? {} : { "grpc.ssl_target_name_override": serverName };
    this.channel = new Channel(target, secrets, { ...OPTIONS, ...named });
  }

  close(): void {
    this.channel.close();
  }

  failure(message: string, code = Code.UNKNOWN): NodeFailure {
    return { address: this.address, message, code };
  }

  private async metadata(): Promise<Metadata> {
    const metadata = new Metadata();
    if (this.token !== undefined) {
      try {
        metadata.set("authorization", `Bearer ${await this.token()}`);
      } catch (error) {
        // Nothing was sent.
        const problem = error instanceof Error ? error.message : String(error);
        throw new RefusedError(this.failure(`there is no token: ${problem}`, Code.UNAUTHENTICATED), error);
      }
    }
    return metadata;
  }

  /** Asks for something without an effect. Throws what `judgeRead` makes of a failure. */
  async ask<Q, A>(method: Method<Q, A>, request: Q, timeoutMs: number, signal?: AbortSignal): Promise<A> {
    const metadata = await this.metadata();
    try {
      return await this.call(method, request, metadata, timeoutMs, signal);
    } catch (error) {
      throw judgeRead(failureOf(this.address, error as ServiceError));
    }
  }

  /** Sends a write once. Throws `TryNext` only if the write certainly did not happen. */
  async sendOnce<Q, A>(method: Method<Q, A>, request: Q, timeoutMs: number, signal?: AbortSignal): Promise<A> {
    const until = performance.now() + timeoutMs;
    const metadata = await this.metadata();
    if (!this.isConnected) {
      // Nothing is given to the library before there is a connection.
      await this.ask(HEALTH, {}, until - performance.now(), signal).catch((error: unknown) => {
        throw error instanceof TryNext ? error : new TryNext(this.failure(String(error)));
      });
      if (!this.isConnected) throw new TryNext(this.failure("the connection is broken", Code.UNAVAILABLE));
    }
    if (signal?.aborted) throw new TryNext(this.failure("the operation was aborted", Code.CANCELLED));
    try {
      return await this.call(method, request, metadata, until - performance.now(), signal);
    } catch (error) {
      throw judgeWrite(failureOf(this.address, error as ServiceError));
    }
  }

  private get isConnected(): boolean {
    return this.channel.getChannel().getConnectivityState(false) === connectivityState.READY;
  }

  private call<Q, A>(
    method: Method<Q, A>,
    request: Q,
    metadata: Metadata,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<A> {
    return new Promise((resolve, reject) => {
      const deadline = Date.now() + Math.max(timeoutMs, 1);
      const { path, serialize, parse } = method;
      const call = this.channel.makeUnaryRequest(path, serialize, parse, request, metadata, { deadline }, (error, answer) => {
        signal?.removeEventListener("abort", cancel);
        if (error) reject(error);
        // The library has an answer where it has no error.
        else resolve(answer as A);
      });
      const cancel = () => call.cancel();
      if (signal?.aborted) cancel();
      signal?.addEventListener("abort", cancel, { once: true });
    });
  }

  /** Begins a stream, which the node must have taken within a time. */
  async open<Q, A>(method: Method<Q, A>, request: Q, withinMs: number, signal?: AbortSignal): Promise<Stream<A>> {
    const metadata = await this.metadata();
    const call = this.channel.makeServerStreamRequest(method.path, method.serialize, method.parse, request, metadata);
    const stream = new Stream<A>(this, call, signal);
    await stream.opened(withinMs);
    return stream;
  }

  /** Records that the node answered: it is avoided no longer. */
  recordAnswer(): void {
    this.answeredAt = performance.now();
    this.isAvoided = false;
  }

  /** Records that the node failed, or has not answered for a while. Whether it was not avoided before. */
  avoid(): boolean {
    const wasAvoided = this.isAvoided;
    this.isAvoided = true;
    this.answeredAt = undefined;
    return !wasAvoided;
  }

  get answeredRecently(): boolean {
    const at = this.answeredAt;
    return !this.isAvoided && at !== undefined && performance.now() - at < RECENT_MS_MAX;
  }
}

/** Answers of one streaming call, each within a time. */
export class Stream<A> {
  private readonly answers: AsyncIterator<A>;
  private failed: ServiceError | undefined;
  private readonly whenAborted = () => this.cancel();

  constructor(
    readonly node: Node,
    private readonly call: ClientReadableStream<A>,
    private readonly signal: AbortSignal | undefined,
  ) {
    // The library does not destroy the stream, so that an iterator which begins later would see nothing but an end.
    call.on("error", (error: ServiceError) => {
      this.failed = error;
    });
    this.answers = call[Symbol.asyncIterator]() as AsyncIterator<A>;
    if (signal?.aborted) this.cancel();
    signal?.addEventListener("abort", this.whenAborted, { once: true });
  }

  /** Waits until the node has taken the call, or has ended it. */
  async opened(withinMs: number): Promise<void> {
    await this.within(
      withinMs,
      new Promise<void>((resolve) => {
        this.call.once("metadata", () => resolve());
        this.call.once("status", () => resolve());
        this.call.once("error", () => resolve());
      }),
    );
  }

  /** The next answer; undefined after the last. */
  async next(withinMs: number): Promise<A | undefined> {
    const { done, value } = await this.within(withinMs, this.read());
    if (done) return undefined;
    this.node.recordAnswer();
    return value;
  }

  private async read(): Promise<IteratorResult<A, unknown>> {
    const result = await this.answers.next();
    if (result.done && this.failed) throw this.failed;
    return result;
  }

  private async within<T>(millis: number, waiting: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new TryNext(this.node.failure("no answer before the deadline", Code.DEADLINE_EXCEEDED)));
        this.cancel();
      }, millis);
    });
    // Whichever comes second is not waited for.
    waiting.catch(() => undefined);
    late.catch(() => undefined);
    try {
      return await Promise.race([waiting, late]);
    } catch (error) {
      this.cancel();
      throw error instanceof TryNext ? error : judgeRead(failureOf(this.node.address, error as ServiceError));
    } finally {
      clearTimeout(timer);
    }
  }

  cancel(): void {
    this.signal?.removeEventListener("abort", this.whenAborted);
    this.call.cancel();
  }
}

function ssl(ca: Buffer | null, key: Buffer | null, certificate: Buffer | null): ChannelCredentials {
  try {
    return credentials.createSsl(ca, key, certificate);
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    throw new InvalidInputError(`a certificate, its key or a CA is not accepted: ${problem}`, error);
  }
}

function parseAddress(
  address: string,
  wantsTls: boolean,
  hasToken: boolean,
): { target: string; isEncrypted: boolean } {
  const bad = (problem: string) =>
    new InvalidInputError(
      `address ${JSON.stringify(address)}: ${problem}; host:port is accepted, such as 127.0.0.1:8001`,
    );
  const [, scheme, authority = ""] = /^(?:([^/]*):\/\/)?(.*)$/s.exec(String(address)) ?? [];
  if (scheme !== undefined && scheme !== "http" && scheme !== "https") throw bad("only http and https are supported");
  if (scheme === "http" && wantsTls) throw bad("http has no encryption, and TLS is asked for");
  const bare = scheme === undefined ? authority : authority.replace(/\/$/, "");
  if (/[/?#@]/.test(bare)) throw bad("a path is not accepted");
  const [, host = "", port] = /^(\[[^\]\s]*\]|[^:\s]*)(?::(\d+))?$/.exec(bare) ?? [];
  if (host === "" && port === undefined) throw bad(bare === "" ? "it is empty" : "it does not parse");
  if (host === "" || host === "[]") throw bad("the host is missing");
  if (port === undefined) throw bad("the port is missing");
  if (Number(port) > 65535) throw bad("the port is above 65535");
  const isEncrypted = scheme === "https" || wantsTls;
  if (hasToken && !isEncrypted && !isThisMachine(host)) {
    throw bad("a token is not sent to another machine without TLS: give tls, with the CA of the cluster");
  }
  return { target: `dns:///${host}:${port}`, isEncrypted };
}
