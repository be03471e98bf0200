/**
 * A cache: a copy of all keys with a prefix, in memory, that follows the cluster and misses no write.
 *
 * A read of it may be older than a write that has ended: a program that needs the latest value asks the cluster.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { Client, type Value, type Watching } from "quorate";

const addresses = (process.env["QUORATE_ADDRESS"] ?? "127.0.0.1:8001,127.0.0.1:8002,127.0.0.1:8003").split(",");

class Cache {
  private values = new Map<string, Value | null>();
  private readonly watching: Watching;
  /** Resolves once all that is there was copied, and rejects where no node could be asked for long. */
  readonly ready: Promise<void>;

  constructor(client: Client, prefix: string) {
    this.watching = client.watch(prefix, { values: true, withList: true });
    this.ready = new Promise((resolve, reject) => this.follow(resolve).catch(reject));
  }

  get(key: string): Value | null | undefined {
    return this.values.get(key);
  }

  get size(): number {
    return this.values.size;
  }

  close(): void {
    this.watching.close();
  }

  private async follow(ready: () => void): Promise<void> {
    let values = this.values;
    for await (const event of this.watching) {
      if (event.type === "changed") values.set(event.key, event.value);
      else if (event.type === "deleted") values.delete(event.key);
      // What is there is told again. The old copy serves until the new one is complete.
      else if (event.type === "reset") values = new Map();
      else {
        this.values = values;
        ready();
      }
    }
  }
}

const client = new Client({ addresses });
await client.set("user:1", "Ada");
const cache = new Cache(client, "user:");
await cache.ready;
console.log(`first: ${cache.get("user:1")}`);
for (let number = 2; number <= 100; number++) await client.set(`user:${number}`, "Bob");
await client.set("user:1", "Ada Lovelace");
await client.delete("user:2");
// A change is told a moment after it was made.
for (let turn = 0; turn < 1000 && (cache.size !== 99 || cache.get("user:1") !== "Ada Lovelace"); turn++) await sleep(10);
console.log(`now: ${cache.get("user:1")} of ${cache.size}`);
cache.close();
client.close();
