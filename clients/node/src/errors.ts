/** Errors of the client, sorted by what the caller does next. */

import { status as Code } from "@grpc/grpc-js";

/** The failure of a request at one node: the node's answer, or the reason why there was none. */
export interface NodeFailure {
  /** The node's address, as it was given to the client. */
  readonly address: string;
  /** What went wrong, for a person. */
  readonly message: string;
  /** The gRPC status code. */
  readonly code: Code;
  /** The node's reason, such as `NO_QUORUM`; undefined if the failure comes from the connection. */
  readonly reason?: string;
  /** The node's account: `slot`, `replicas`, `needed`, and `replica.ID` for the state of each replica. */
  readonly metadata?: Readonly<Record<string, string>>;
}

function said(failure: NodeFailure): string {
  return `${failure.address}: ${failure.message}`;
}

export type ErrorKind =
  | "INVALID_INPUT"
  | "NOT_APPLIED"
  | "OUTCOME_UNKNOWN"
  | "CONDITION_FAILED"
  | "NOT_A_NUMBER"
  | "NO_SUCH_TABLE"
  | "TABLE_EXISTS"
  | "UNAVAILABLE"
  | "REFUSED";

/** Any failure of an operation. The subclasses, and `kind`, say what the caller does next. */
export abstract class QuorateError extends Error {
  abstract readonly kind: ErrorKind;

  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
  }
}

/** The input is not accepted, and nothing was sent. Correct the input. */
export class InvalidInputError extends QuorateError {
  readonly kind = "INVALID_INPUT";
}

/** The write certainly did not happen, and will not. It was tried until the deadline, and may be sent again. */
export class NotAppliedError extends QuorateError {
  readonly kind = "NOT_APPLIED";
  constructor(
    /** The failure at the node that was tried last. */
    readonly node: NodeFailure,
    readonly triedForMs: number,
    cause?: unknown,
  ) {
    super(`not written, certainly: ${said(node)} (tried for ${seconds(triedForMs)} s; safe to send again)`, cause);
  }
}

/**
 * The write may have happened, or may still happen. Read the key to find out. Send the same write again only if writing it twice
 * does no harm.
 */
export class OutcomeUnknownError extends QuorateError {
  readonly kind = "OUTCOME_UNKNOWN";
  constructor(
    /** The failure at the node that the write was sent to. */
    readonly node: NodeFailure,
    cause?: unknown,
  ) {
    super(`may or may not be written: ${said(node)}${node.reason ? "" : " (read the key to find out)"}`, cause);
  }
}

/** The condition does not hold, and the write never takes effect. Look at the key, and decide anew. */
export class ConditionFailedError extends QuorateError {
  readonly kind = "CONDITION_FAILED";
  constructor(
    /** The key's present version. */
    readonly version: string,
    /** Whether the key has a value. */
    readonly hasValue: boolean,
  ) {
    const has = hasValue ? "a value" : "no value";
    super(`not written: the condition does not hold; the key has ${has}, version ${version}`);
  }
}

/** The value to add to is no number in decimal, or the sum is out of 64 bits. The addition never takes effect. */
export class NotANumberError extends QuorateError {
  readonly kind = "NOT_A_NUMBER";
  constructor(
    /** The key's present version. */
    readonly version: string,
  ) {
    super(`not added: the value is no number in decimal, or the sum is out of 64 bits; its version is ${version}`);
  }
}

/** There is no table of this name, or there is none any more. `client.tables.create` makes it. */
export class NoSuchTableError extends QuorateError {
  readonly kind = "NO_SUCH_TABLE";
  constructor(readonly node: NodeFailure) {
    super(said(node));
  }
}

/** There is a table of this name already, so that it was not created. */
export class TableExistsError extends QuorateError {
  readonly kind = "TABLE_EXISTS";
  constructor(readonly node: NodeFailure) {
    super(said(node));
  }
}

/** No node answered the read before the deadline. It may be asked again at any time. */
export class UnavailableError extends QuorateError {
  readonly kind = "UNAVAILABLE";
  constructor(
    /** The failure at the node that was asked last. */
    readonly node: NodeFailure,
    readonly triedForMs: number,
  ) {
    super(`not answered: ${said(node)} (tried for ${seconds(triedForMs)} s; safe to ask again)`);
  }
}

/** The node refuses the request, and would refuse it again. Nothing was written. Correct the request. */
export class RefusedError extends QuorateError {
  readonly kind = "REFUSED";
  constructor(
    /** The node's refusal. */
    readonly node: NodeFailure,
    cause?: unknown,
  ) {
    super(`refused: ${said(node)}`, cause);
  }
}

function seconds(millis: number): string {
  return (millis / 1000).toFixed(1);
}

/** Inside the client: another node may be tried, because the failed try had no effect. */
export class TryNext extends Error {
  constructor(readonly failure: NodeFailure) {
    super(said(failure));
  }
}
