import type * as api from "./api.js";
import { NoSuchTableError, OutcomeUnknownError, TryNext, UnavailableError } from "./errors.js";
import * as messages from "./messages.js";
import { type Node, TABLE_CREATE, TABLE_DROP, TABLE_GET, TABLE_LIST } from "./node.js";
import { Backoff, Operation, type Pool, sensible } from "./pool.js";
import type { Abortable, CreateTableOptions, TableCreated, TableInfo } from "./types.js";

/** The tables of a cluster. */
export class Tables {
  /** @internal */
  constructor(
    private readonly pool: Pool,
    private readonly deadlineMs: number,
  ) {}

  /**
   * Creates a table, empty. Of many calls for one name at once, one creates it. Rejects as `client.set`, and with `TableExistsError`.
   */
  async create(name: string, options: CreateTableOptions = {}): Promise<TableCreated> {
    const request = messages.createRequest(name, options);
    const operation = new Operation(this.deadlineMs, options.signal);
    const backoff = new Backoff();
    for (;;) {
      try {
        const [node, answer] = await this.pool.write(operation, TABLE_CREATE, request);
        return messages.believed(node.address, () => ({
          table: messages.tableOf(answer.table),
          isNew: answer.created,
        }));
      } catch (error) {
        // A table that an earlier try has created will do.
        const mayTryAgain = error instanceof OutcomeUnknownError && options.ifMissing === true;
        if (!mayTryAgain || !(await backoff.wait(operation.deadline, options.signal))) throw error;
      }
    }
  }

  /**
   * Drops a table, with all of its keys. Once it is done they are gone for everybody, and a later table of the same name is empty.
   *
   * `OutcomeUnknownError` says that the table may be dropped in part: its keys cannot be used any more. Drop it again, unless somebody
   * may have created another table of its name meanwhile. Rejects as `client.set`, and with `NoSuchTableError`.
   */
  async drop(name: string, options?: Abortable): Promise<void> {
    const operation = new Operation(this.deadlineMs, options?.signal);
    await this.pool.write(operation, TABLE_DROP, { name: messages.checkCreatedTable(name) });
  }

  /** Reads a table's settings: null if there is no table of this name. Rejects as `client.get`. */
  async get(name: string, options?: Abortable): Promise<TableInfo | null> {
    messages.checkTable(name);
    const operation = new Operation(this.deadlineMs, options?.signal);
    try {
      return await this.pool.read(operation, TABLE_GET, { name }, (answer) => messages.tableOf(answer.table));
    } catch (error) {
      if (error instanceof NoSuchTableError) return null;
      throw error;
    }
  }

  /** Lists the tables in the order of their names, `default` included. Rejects as `client.get`. */
  async list(options?: Abortable): Promise<TableInfo[]> {
    const operation = new Operation(this.deadlineMs, options?.signal);
    const backoff = new Backoff();
    const tables: TableInfo[] = [];
    for (;;) {
      let node: Node | undefined;
      try {
        node = await this.pool.liveNode(operation);
        await readTables(operation, node, tables);
        return tables;
      } catch (error) {
        options?.signal?.throwIfAborted();
        if (!(error instanceof TryNext)) throw error;
        if (node) this.pool.avoid(node);
        if (await backoff.wait(operation.deadline, options?.signal)) continue;
        options?.signal?.throwIfAborted();
        throw new UnavailableError(error.failure, operation.elapsedMs);
      }
    }
  }
}

/** Reads the tables after those that are known from one node, until it fails. */
async function readTables(operation: Operation, node: Node, tables: TableInfo[]): Promise<void> {
  const request: api.TableListRequest = { startAfter: tables.at(-1)?.name ?? "", limit: 0n };
  const stream = await node.open(TABLE_LIST, request, operation.leftMs, operation.signal);
  try {
    for (;;) {
      const page = await stream.next(operation.leftMs);
      if (!page) throw new TryNext(node.failure("the list was cut off"));
      tables.push(...sensible(node, (answer) => answer.tables.map(messages.tableOf), page));
      if (page.next === undefined) return;
    }
  } finally {
    stream.cancel();
  }
}
