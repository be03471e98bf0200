/** A counter that counts each event once, although nodes die meanwhile. */

import { Client, ConditionFailedError, OutcomeUnknownError } from "quorate";

const addresses = (process.env["QUORATE_ADDRESS"] ?? "127.0.0.1:8001,127.0.0.1:8002,127.0.0.1:8003").split(",");

/** A counter, as one of its users sees it. */
class Counter {
  /** A version of the key that an earlier answer gave. */
  private seen: string | undefined;

  constructor(
    private readonly client: Client,
    private readonly key: string,
  ) {}

  /**
   * Adds once, and resolves to the sum. The rare `OutcomeUnknownError` says that it has perhaps counted. So may one of very many
   * additions at a time: a record remembers the last eight.
   */
  async add(delta = 1): Promise<bigint> {
    this.seen ??= (await this.client.state(this.key)).version;
    for (;;) {
      try {
        // An addition that names a version is sent again where a node dies, and counts once.
        const added = await this.client.add(this.key, delta, { since: this.seen });
        this.seen = added.version;
        return added.value;
      } catch (error) {
        if (!(error instanceof ConditionFailedError)) throw error;
        // Others have counted too often since. This addition certainly did not: try from here.
        this.seen = error.version;
      }
    }
  }
}

const client = new Client({ addresses });
await client.delete("visits");
let counted = 0;
let perhaps = 0;
const visitor = async () => {
  const counter = new Counter(client, "visits");
  for (let visit = 0; visit < 10; visit++) {
    try {
      await counter.add();
      counted++;
    } catch (error) {
      if (!(error instanceof OutcomeUnknownError)) throw error;
      perhaps++;
    }
  }
};
await Promise.all([visitor(), visitor(), visitor(), visitor(), visitor()]);
const visits = Number((await client.get("visits"))?.value);
const isRight = counted <= visits && visits <= counted + perhaps;
console.log(`${visits} visits, ${perhaps} of unknown outcome: ${isRight ? "each counted once" : "miscounted"}`);
client.close();
