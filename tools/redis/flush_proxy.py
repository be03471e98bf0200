#!/usr/bin/env python3
"""python3 tools/redis/flush_proxy.py PORT NODE_PORT: lets suites that test servers of Redis run against a node.

Suites empty the server between tests with FLUSHALL, which a node refuses. This proxy listens on 127.0.0.1:PORT. It does FLUSHALL
and FLUSHDB by SCAN and UNLINK, answers OK to FUNCTION FLUSH, CONFIG SET, CONFIG RESETSTAT and SELECT, and passes everything else
to the node on 127.0.0.1:NODE_PORT. It needs redis-py. The section "How compatible it is" of docs/redis.md has the commands.
"""

import asyncio
import sys

import redis

LISTEN, NODE = int(sys.argv[1]), int(sys.argv[2])
READ_BYTES = 1 << 16
# What claims more is passed on as it is, and so is everything after it on that connection.
ARGUMENTS_MAX, ARGUMENT_BYTES_MAX = 100_000, 1 << 27


def flush():
    """Deletes all keys."""
    client = redis.Redis(port=NODE)
    while keys := list(client.scan_iter(count=1000)):
        client.unlink(*keys[:10_000])
    client.close()


class Unframed(Exception):
    """These bytes are not an array of bulk strings."""


def parse(buffer):
    """The words of the first command, and the bytes after it; None while it has not arrived."""
    try:
        end = buffer.index(b"\r\n")
        count = int(buffer[1:end])
        if not buffer.startswith(b"*") or count > ARGUMENTS_MAX:
            raise Unframed
        at, words = end + 2, []
        for _ in range(max(count, 0)):
            end = buffer.index(b"\r\n", at)
            length = int(buffer[at + 1 : end])
            if buffer[at : at + 1] != b"$" or not 0 <= length <= ARGUMENT_BYTES_MAX:
                raise Unframed
            at = end + 2 + length + 2
            if len(buffer) < at:
                return None
            words.append(buffer[end + 2 : at - 2])
        return words, buffer[at:]
    except ValueError as error:
        if "not found" in str(error) and buffer.startswith(b"*"):
            return None
        raise Unframed from error


def is_answered_here(words):
    name, first = (word.lower() for word in (words + [b"", b""])[:2])
    if name in (b"flushall", b"flushdb"):
        flush()
        return True
    return (name, first) in ((b"function", b"flush"), (b"config", b"set"), (b"config", b"resetstat")) or name == b"select"


async def attend(reader, writer):
    node_reader, node_writer = await asyncio.open_connection("127.0.0.1", NODE)

    async def answers():
        while data := await node_reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
        writer.close()

    task = asyncio.create_task(answers())
    buffer, is_framed = b"", True
    while data := await reader.read(READ_BYTES):
        buffer += data
        while buffer:
            try:
                parsed = parse(buffer) if is_framed else (None, b"")
            except Unframed:
                is_framed, parsed = False, (None, b"")
            if parsed is None:
                break
            words, rest = parsed
            if words and is_answered_here(words):
                writer.write(b"+OK\r\n")
                await writer.drain()
            else:
                node_writer.write(buffer[: len(buffer) - len(rest)])
                await node_writer.drain()
            buffer = rest
    node_writer.write_eof()
    await task


async def main():
    server = await asyncio.start_server(attend, "127.0.0.1", LISTEN)
    async with server:
        await server.serve_forever()


asyncio.run(main())
