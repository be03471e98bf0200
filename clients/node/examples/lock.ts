/**
 * A lock with a fencing token: of three workers, one at a time works on something.
 *
 * The lock ends by itself where its holder dies. A holder that is paused can lose it without notice. So each holder has a token, a
 * number that is greater than that of every holder before it. What the lock protects refuses a smaller one.
 */

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, ConditionFailedError, OutcomeUnknownError } from "quorate";

const addresses = (process.env["QUORATE_ADDRESS"] ?? "127.0.0.1:8001,127.0.0.1:8002,127.0.0.1:8003").split(",");
const ttlMs = 10_000;

/** What `work` returns; undefined where the lock is another one's, or perhaps is. A lock that was perhaps taken ends by itself. */
async function ifHeld<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof ConditionFailedError || error instanceof OutcomeUnknownError) return undefined;
    throw error;
  }
}

class Lock {
  private constructor(
    private readonly client: Client,
    private readonly key: string,
    private version: string,
    /** Greater than that of every holder before this one. */
    readonly token: bigint,
  ) {}

  /** Takes the lock, unless somebody has it. */
  static async tryTake(client: Client, key: string): Promise<Lock | undefined> {
    const state = await client.state(key);
    if (state.found) return undefined;
    // An absence has a version too. A write that names a version is sent again where a node dies.
    const taken = await ifHeld(client.set(key, randomUUID(), { ifVersion: state.version, ttlMs }));
    if (!taken) return undefined;
    const lock = new Lock(client, key, taken.version, await Lock.draw(client, `${key}/tokens`));
    return (await lock.keep()) ? lock : undefined;
  }

  private static async draw(client: Client, key: string): Promise<bigint> {
    for (;;) {
      try {
        return (await client.add(key, 1)).value;
      } catch (error) {
        // A token that is drawn in vain does no harm.
        if (!(error instanceof OutcomeUnknownError)) throw error;
      }
    }
  }

  /** Keeps the lock for another time to live. False if it is lost. */
  async keep(): Promise<boolean> {
    const kept = await ifHeld(this.client.set(this.key, String(this.token), { ifVersion: this.version, ttlMs }));
    if (kept) this.version = kept.version;
    return kept !== undefined;
  }

  /** Gives the lock back. A lock that is lost is left alone. */
  async release(): Promise<void> {
    await ifHeld(this.client.delete(this.key, { ifVersion: this.version }));
  }
}

/** Writes to what the lock protects. False if a later holder has written already. */
async function write(client: Client, key: string, token: bigint): Promise<boolean> {
  const written = await client.update(key, (old) => {
    const [seen = "0", turns = "0"] = String(old?.value ?? "").split(" ").filter(Boolean);
    return BigInt(seen) < token ? `${token} ${Number(turns) + 1}` : null;
  });
  return written !== null;
}

let printed = 0;
let perhaps = 0;

async function work(client: Client): Promise<void> {
  for (let turn = 0; turn < 4; turn++) {
    let lock: Lock | undefined;
    while (!(lock = await Lock.tryTake(client, "printer"))) await sleep(50);
    try {
      const isPrinted = (await lock.keep()) && (await write(client, "printer/page", lock.token));
      if (isPrinted) printed++;
      console.log(isPrinted ? `printed, with token ${lock.token}` : "lost the lock");
    } catch (error) {
      if (!(error instanceof OutcomeUnknownError)) throw error;
      perhaps++;
    }
    await lock.release();
  }
}

const client = new Client({ addresses });
await client.delete("printer/page");
await Promise.all([work(client), work(client), work(client)]);
const turns = Number(String((await client.get("printer/page"))?.value).split(" ")[1]);
const isRight = printed <= turns && turns <= printed + perhaps;
console.log(isRight ? "each page was printed once" : `${turns} pages, and ${printed} were printed`);
client.close();
