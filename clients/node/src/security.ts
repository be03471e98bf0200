/** Where the token of a client comes from, and what TLS is made of. */

import { readFileSync } from "node:fs";
import { BlockList, isIP } from "node:net";
import { performance } from "node:perf_hooks";
import { InvalidInputError } from "./errors.js";
import type { Tls, Token } from "./types.js";

/** How long the token of a file counts before the file is read again. */
const READ_AGAIN_AFTER_MS = 1000;

/** The token without the blanks around it. No error has its text. */
function checked(token: unknown, of = "the token"): string {
  if (typeof token !== "string") throw new InvalidInputError(`${of} is no text`);
  const bare = token.trim();
  if (bare === "") throw new InvalidInputError(`${of} is empty`);
  if (!/^[!-~]+$/.test(bare)) {
    throw new InvalidInputError(`${of} has characters that no token has: printable ASCII without blanks is accepted`);
  }
  return bare;
}

/** What returns the token for each call; undefined where there is none. */
export type TokenSource = () => string | Promise<string>;

export function tokenSource(token: Token | undefined, tokenFile: string | undefined): TokenSource | undefined {
  if (tokenFile !== undefined) {
    if (token !== undefined) throw new InvalidInputError("both a token and a file of one are given: give one of them");
    return ofFile(tokenFile);
  }
  if (typeof token === "function") return async () => checked(await token());
  if (token === undefined) return undefined;
  const text = checked(token);
  return () => text;
}

/** The token of a file, which is read again once a second: a client goes on with the token that replaces it. */
function ofFile(path: string): TokenSource {
  const read = () => checked(readText(path, "the file of the token"), `the token in ${JSON.stringify(path)}`);
  let token = read();
  let readAt = performance.now();
  return () => {
    const now = performance.now();
    if (now - readAt >= READ_AGAIN_AFTER_MS) {
      readAt = now;
      try {
        token = read();
      } catch {
        // The file is being replaced, perhaps. Nodes say whether the token before still counts.
      }
    }
    return token;
  };
}

function readText(path: string, what: string): string {
  if (path === "") throw new InvalidInputError(`${what} has no name`);
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new InvalidInputError(`${what}: ${error instanceof Error ? error.message : String(error)}`, error);
  }
}

/** The parts of TLS, each from the options or from its file. */
export function partsOf(tls: Tls): { ca: Buffer | null; certificate: Buffer | null; key: Buffer | null } {
  const part = (given: Uint8Array | string | undefined, file: string | undefined) => {
    if (given !== undefined && file !== undefined) {
      throw new InvalidInputError("a part of tls and a file of it are given: give one of them");
    }
    const found = file === undefined ? given : readText(file, "a file for TLS");
    return found === undefined ? null : Buffer.from(found);
  };
  const parts = {
    ca: part(tls.ca, tls.caFile),
    certificate: part(tls.certificate, tls.certificateFile),
    key: part(tls.key, tls.keyFile),
  };
  if ((parts.certificate === null) !== (parts.key === null)) {
    throw new InvalidInputError("a certificate of the client needs its key, and a key its certificate: give both");
  }
  for (const [name, found] of Object.entries(parts)) {
    // Node.js passes over an authority that it cannot read.
    const mark = name === "key" ? "PRIVATE KEY-----" : "-----BEGIN CERTIFICATE-----";
    if (found && !found.includes(mark)) throw new InvalidInputError(`${name} of tls is not accepted: give PEM`);
  }
  return parts;
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/** Whether a host, as an address has it, is this machine. */
export function isThisMachine(host: string): boolean {
  const bare = host.replace(/^\[(.*)\]$/, "$1");
  const family = isIP(bare);
  return bare === "localhost" || (family !== 0 && LOOPBACK.check(bare, family === 6 ? "ipv6" : "ipv4"));
}
