/**
 * A client of Quorate, a leaderless key-value store in which every key is linearizable. Errors are sorted by what the caller does next.
 */

export { type Change, Client, type WriteResult } from "./client.js";
export {
  ConditionFailedError,
  type ErrorKind,
  InvalidInputError,
  type NodeFailure,
  NoSuchTableError,
  NotANumberError,
  NotAppliedError,
  OutcomeUnknownError,
  QuorateError,
  RefusedError,
  TableExistsError,
  UnavailableError,
} from "./errors.js";
export type { GetResult } from "./messages.js";
export type { Listing, Watching } from "./streams.js";
export type { Tables } from "./tables.js";
export type * from "./types.js";
