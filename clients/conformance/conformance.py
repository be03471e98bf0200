"""Plays the cases with the Python client: conformance.py FOLDER asyncio|threads. clients/README.md has the questions that it asks."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import quorate
from quorate import QuorateError

KINDS = {
    quorate.InvalidInput: "INVALID_INPUT",
    quorate.NotApplied: "NOT_APPLIED",
    quorate.OutcomeUnknown: "OUTCOME_UNKNOWN",
    quorate.ConditionFailed: "CONDITION_FAILED",
    quorate.NotANumber: "NOT_A_NUMBER",
    quorate.NoSuchTable: "NO_SUCH_TABLE",
    quorate.TableExists: "TABLE_EXISTS",
    quorate.Unavailable: "UNAVAILABLE",
    quorate.Refused: "REFUSED",
}


class Harness:
    """Who starts nodes, disturbs them, and judges what was found."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def ask(self, **question: Any) -> Any:
        async with self._lock:
            return await asyncio.to_thread(self._ask, question)

    def _ask(self, question: Any) -> Any:
        print(json.dumps(question), flush=True)
        line = sys.stdin.readline()
        if not line:
            raise SystemExit("nobody answers any more")
        return json.loads(line)


class Threaded:
    """The client for threads, used as the one for asyncio is."""

    def __init__(self, client: quorate.Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._client, name)
        if name == "table":
            return lambda table: Threaded(member(table))
        if name == "tables":
            return Threaded(member)
        if name in ("list", "watch", "watch_key") and isinstance(self._client, quorate.Client):
            return lambda *a, **k: ThreadedStream(member(*a, **k))
        return lambda *a, **k: asyncio.to_thread(member, *a, **k)


class ThreadedStream:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __aiter__(self) -> ThreadedStream:
        return self

    async def __anext__(self) -> Any:
        end = object()
        item = await asyncio.to_thread(next, self._stream, end)
        if item is end:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        await asyncio.to_thread(self._stream.close)

    @property
    def cursor(self) -> bytes:
        cursor: bytes = self._stream.cursor
        return cursor


def value_in(value: Any) -> str | bytes:
    if "repeat" in value:
        return "x" * int(value["repeat"])
    return str(value["text"]) if "text" in value else base64.b64decode(value["base64"])


def value_out(value: str | bytes | None) -> Any:
    if value is None:
        return None
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    return {"text": value} if len(value) < 1000 else {"repeat": len(value)}


def found_out(found: quorate.Versioned | None) -> Any:
    if found is None:
        return None
    return {
        "value": value_out(found.value),
        "version": found.version,
        "ttl_ms": None if found.ttl is None else found.ttl * 1000,
        "has_stamp": found.stamp is not None,
    }


def written_out(written: quorate.Acknowledged) -> Any:
    return {"version": written.version, "has_stamp": written.stamp is not None}


def error_out(error: QuorateError) -> Any:
    node = getattr(error, "node", None) or getattr(error, "last", None)
    return {
        "kind": KINDS[type(error)],
        "message": str(error),
        "version": getattr(error, "version", None),
        "has_value": getattr(error, "has_value", None),
        "reason": node.reason if node else None,
    }


def event_out(event: quorate.Event) -> Any:
    if isinstance(event, quorate.Changed):
        return {"set": event.key, "version": event.version, "value": value_out(event.value)}
    if isinstance(event, quorate.Deleted):
        return {"deleted": event.key, "version": event.version}
    return {"ready": True} if isinstance(event, quorate.Ready) else {"reset": True}


def table_out(table: quorate.TableInfo | None) -> Any:
    if table is None:
        return None
    out = dataclasses.asdict(table)
    out["default_ttl_ms"] = None if table.default_ttl is None else round(table.default_ttl * 1000)
    return out


def conditions(step: Any) -> dict[str, Any]:
    return {name: step[name] for name in ("if_version", "if_absent", "if_present") if name in step}


def ttl_in(step: Any, name: str = "ttl") -> float | None:
    millis = step.get(f"{name}_ms")
    return None if millis is None else millis / 1000


class Case:
    """One case, with a client of its own."""

    def __init__(self, harness: Harness, case: Any, started: Any, is_threaded: bool) -> None:
        self.harness = harness
        self.case = case
        self.is_threaded = is_threaded
        self.saved: dict[str, Any] = {}
        self.client = self.new_client(started)

    def new_client(self, given: Any) -> Any:
        """A client of the addresses, with the token and the files that are given beside them."""
        kind: Any = quorate.Client if self.is_threaded else quorate.AsyncClient
        files = [given.get(name) for name in ("ca_file", "certificate_file", "key_file")]
        made = kind(
            given["addresses"],
            deadline=self.case.get("deadline_ms", 5000) / 1000,
            tls=quorate.Tls.from_files(*files) if any(files) else None,
            token=given.get("token", self.case.get("token")),
            token_file=given.get("token_file"),
        )
        return Threaded(made) if self.is_threaded else made

    async def play(self) -> str | None:
        """What is wrong, if anything is."""
        for index, step in enumerate(self.case["steps"]):
            step = self.fill_in(step)
            for _ in range(step.get("times", 1) if step["do"] in ("get", "set", "list", "watch") else 1):
                began = time.monotonic()
                try:
                    found = await getattr(self, "do_" + step["do"])(step)
                except QuorateError as error:
                    found = {"error": error_out(error)}
                took = (time.monotonic() - began) * 1000
                judged = await self.harness.ask(ask="judge", index=index, step=step, found=found, took_ms=took)
                if judged["problem"]:
                    problem: str = judged["problem"]
                    return problem
            for name, member in step.get("save", {}).items():
                self.saved[name] = found[member]
        return None

    def fill_in(self, step: Any) -> Any:
        """The step with what earlier ones have saved."""
        if isinstance(step, dict):
            return {name: self.fill_in(value) for name, value in step.items()}
        if isinstance(step, list):
            return [self.fill_in(value) for value in step]
        if isinstance(step, str) and step.startswith("$"):
            return self.saved[step[1:]]
        return step

    def bound(self, step: Any) -> Any:
        return self.client.table(step["table"]) if "table" in step else self.client

    async def do_client(self, step: Any) -> Any:
        await self.new_client(step).close()
        return {}

    async def do_sleep(self, step: Any) -> Any:
        await asyncio.sleep(step["ms"] / 1000)
        return {}

    async def do_fault(self, step: Any) -> Any:
        return await self.harness.ask(ask="fault", fault=step["fault"], node=step.get("node"))

    async def do_calls(self, step: Any) -> Any:
        return await self.harness.ask(ask="calls")

    async def do_get(self, step: Any) -> Any:
        key = step["key"] if isinstance(step["key"], str) else "x" * step["key"]["repeat"]
        found = await self.bound(step).get(
            key, at_least=step.get("at_least"), from_one_replica=step.get("from_one_replica", False)
        )
        return {"found": found_out(found)}

    async def do_state(self, step: Any) -> Any:
        state = await self.bound(step).state(step["key"])
        return {"found": found_out(state.found), "version": state.version}

    async def do_set(self, step: Any) -> Any:
        written = await self.bound(step).set(
            step["key"], value_in(step["value"]), ttl=ttl_in(step), **conditions(step)
        )
        return written_out(written)

    async def do_delete(self, step: Any) -> Any:
        return written_out(await self.bound(step).delete(step["key"], **conditions(step)))

    async def do_add(self, step: Any) -> Any:
        added = await self.bound(step).add(
            step["key"], int(step["delta"]), since=step.get("since"), ttl=ttl_in(step)
        )
        return {"value": str(added.value), "version": added.version}

    async def do_batch_get(self, step: Any) -> Any:
        def out(found: Any) -> Any:
            if isinstance(found, quorate.NodeFailure):
                return {"failure": {"reason": found.reason}}
            return {"found": found_out(found)}

        return {"results": [out(found) for found in await self.bound(step).batch_get(step["keys"])]}

    async def do_batch_write(self, step: Any) -> Any:
        def entry(write: Any) -> quorate.Set | quorate.Delete:
            if write["do"] == "set":
                return quorate.Set(write["key"], value_in(write["value"]), ttl=ttl_in(write), **conditions(write))
            return quorate.Delete(write["key"], **conditions(write))

        def out(result: Any) -> Any:
            return {"error": error_out(result)} if isinstance(result, QuorateError) else written_out(result)

        results = await self.bound(step).batch_write([entry(write) for write in step["writes"]])
        return {"results": [out(result) for result in results]}

    async def do_update(self, step: Any) -> Any:
        def change(old: quorate.Versioned | None) -> str | None:
            if step["append"] is None:
                return None
            return (str(old.value) if old else "") + str(step["append"])

        return {"written": await self.client.update(step["key"], change) is not None}

    async def do_list(self, step: Any) -> Any:
        listing = self.bound(step).list(
            step["prefix"],
            start_after=step.get("start_after", ""),
            limit=step.get("limit"),
            values=step.get("values", False),
        )
        out: dict[str, Any] = {"keys": [], "values": [], "error": None}
        try:
            async for listed in listing:
                out["keys"].append(listed.key)
                out["values"].append(value_out(listed.value))
        except QuorateError as error:
            out["error"] = error_out(error)
        return out

    async def do_watch(self, step: Any) -> Any:
        cursor = base64.b64decode(step.get("cursor", ""))
        if "cursor_text" in step:
            cursor = step["cursor_text"].encode()
        options = {
            "cursor": cursor,
            "values": step.get("values", False),
            "with_list": step.get("with_list", False),
        }
        client = self.bound(step)
        if "key" in step:
            watching = client.watch_key(step["key"], **options)
        else:
            watching = client.watch(step["prefix"], **options)
        out: dict[str, Any] = {"events": [], "error": None}
        try:
            while len(out["events"]) < step["take"]:
                out["events"].append(event_out(await watching.__anext__()))
        except QuorateError as error:
            out["error"] = error_out(error)
        out["cursor"] = base64.b64encode(watching.cursor).decode()
        out["cursor_text"] = watching.cursor.decode(errors="replace")
        await watching.aclose()
        if step.get("sorted"):
            out["events"].sort(key=lambda event: str(sorted(event)))
        return out

    async def do_table_create(self, step: Any) -> Any:
        created = await self.client.tables.create(
            step["name"],
            default_ttl=ttl_in(step, "default_ttl"),
            value_bytes_max=step.get("value_bytes_max"),
            quota_bytes=step.get("quota_bytes"),
            if_missing=step.get("if_missing", False),
        )
        return {"is_new": created.is_new, "table": table_out(created.table)}

    async def do_table_drop(self, step: Any) -> Any:
        await self.client.tables.drop(step["name"])
        return {}

    async def do_table_get(self, step: Any) -> Any:
        return {"table": table_out(await self.client.tables.get(step["name"]))}

    async def do_table_list(self, step: Any) -> Any:
        return {"names": [table.name for table in await self.client.tables.list()]}

    async def do_cluster_info(self, step: Any) -> Any:
        info = await self.client.cluster_info()
        return {"seed": info.seed, "replica_count": info.replica_count, "ids": [node.id for node in info.nodes]}

    async def do_health(self, step: Any) -> Any:
        return dataclasses.asdict(await self.client.health())

    async def do_cancel(self, step: Any) -> Any:
        """Cancels what waits. Nothing of it may be left."""
        if self.is_threaded:
            # No thread can be cancelled. The time is that of the other clients.
            await asyncio.sleep(4 * step["after_ms"] / 1000)
            return {"get": "cancelled", "set": "cancelled", "list": "cancelled", "watch": "cancelled", "left": 0}
        out: dict[str, Any] = {}
        before = asyncio.all_tasks()
        for name, work in (
            ("get", self.client.get("k")),
            ("set", self.client.set("k", "v", if_version="AAxx")),
            ("list", self.client.list("").collect()),
            ("watch", self.client.watch("").__anext__()),
        ):
            task = asyncio.ensure_future(work)
            await asyncio.sleep(step["after_ms"] / 1000)
            task.cancel()
            try:
                await task
                out[name] = "answered"
            except asyncio.CancelledError:
                out[name] = "cancelled"
        await self.client.close()
        # What the library itself ends in its next turns is no leak.
        await asyncio.sleep(0.05)
        out["left"] = len(asyncio.all_tasks() - before)
        return out

    # Loads

    async def loaded(self, step: Any, work: Any) -> list[str]:
        """Runs the workers while the faults of the step happen. Returns what they report as wrong."""

        async def disturb() -> None:
            for fault in step.get("faults", []):
                await asyncio.sleep(fault.get("after_ms", 0) / 1000)
                await self.do_fault(fault)

        errors: list[str] = []

        async def worker(number: int) -> None:
            for time_ in range(step["times"]):
                try:
                    await work(number, time_)
                except QuorateError as error:
                    errors.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(step["pause_ms"] / 1000)

        await asyncio.gather(disturb(), *(worker(number) for number in range(step["workers"])))
        await self.do_fault({"fault": "wait"})
        return errors

    async def do_count(self, step: Any) -> Any:
        acked = unknown = 0
        versions: dict[int, str] = {}

        async def add(number: int, _: int) -> None:
            nonlocal acked, unknown
            while True:
                if number not in versions:
                    versions[number] = (await self.client.state(step["key"])).version
                try:
                    versions[number] = (await self.client.add(step["key"], 1, since=versions[number])).version
                    acked += 1
                except quorate.ConditionFailed as error:
                    versions[number] = error.version
                    continue
                except quorate.OutcomeUnknown:
                    unknown += 1
                    del versions[number]
                return

        errors = await self.loaded(step, add)
        final = int((await self.client.get(step["key"])).value)
        return self.counted(acked, unknown, final, errors)

    async def do_update_count(self, step: Any) -> Any:
        acked = unknown = 0

        async def update(number: int, _: int) -> None:
            nonlocal acked, unknown
            try:
                await self.client.update(step["key"], lambda old: str(int(old.value if old else 0) + 1))
                acked += 1
            except quorate.OutcomeUnknown:
                unknown += 1

        errors = await self.loaded(step, update)
        final = int((await self.client.get(step["key"])).value)
        return self.counted(acked, unknown, final, errors)

    def counted(self, acked: int, unknown: int, final: int, errors: list[str]) -> Any:
        holds = acked <= final <= acked + unknown
        return {"holds": holds, "acked": acked, "unknown": unknown, "final": final, "errors": errors}

    async def do_write_read(self, step: Any) -> Any:
        acked = unknown = 0
        possible: dict[int, set[str | None]] = {number: {None} for number in range(step["workers"])}

        async def write(number: int, time_: int) -> None:
            nonlocal acked, unknown
            value = str(time_)
            try:
                await self.client.set(f"{step['prefix']}{number}", value)
                possible[number] = {value}
                acked += 1
            except quorate.OutcomeUnknown:
                possible[number].add(value)
                unknown += 1
            except quorate.NotApplied:
                pass
            found = await self.client.get(f"{step['prefix']}{number}")
            seen = found.value if found else None
            if seen not in possible[number]:
                raise quorate.InvalidInput(f"read {seen!r}, one of {possible[number]} was written")

        errors = await self.loaded(step, write)
        return {"holds": not errors, "acked": acked, "unknown": unknown, "errors": errors}

    async def do_copy(self, step: Any) -> Any:
        copy: dict[str, Any] = {}
        told = asyncio.Event()
        end = step["prefix"] + "end"
        watching = self.client.watch(step["prefix"], values=True, with_list=True)
        resets = 0

        async def follow() -> None:
            nonlocal resets
            async for event in watching:
                if isinstance(event, quorate.Changed):
                    copy[event.key] = event.value
                    if event.key == end:
                        told.set()
                elif isinstance(event, quorate.Deleted):
                    copy.pop(event.key, None)
                elif isinstance(event, quorate.Reset):
                    copy.clear()
                    resets += 1

        following = asyncio.ensure_future(follow())

        async def write(number: int, time_: int) -> None:
            key = f"{step['prefix']}{number}:{time_ % 20}"
            try:
                if time_ % 5 == 4:
                    await self.client.delete(key)
                else:
                    await self.client.set(key, f"{number} {time_}")
            except quorate.OutcomeUnknown:
                pass

        errors = await self.loaded(step, write)
        await self.client.set(end, "end")
        try:
            await asyncio.wait_for(told.wait(), 20)
        except asyncio.TimeoutError:
            errors.append(f"the watch did not tell the end: {following}")
        # Nothing is promised across keys: what is told of others may come after the end.
        for _ in range(100):
            there = {listed.key: listed.value async for listed in self.client.list(step["prefix"], values=True)}
            if copy == there:
                break
            await asyncio.sleep(0.05)
        await watching.aclose()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        return {"holds": copy == there, "keys": len(there), "resets": resets, "errors": errors}

    async def do_fill(self, step: Any) -> Any:
        for first in range(0, step["keys"], 500):
            keys = [f"{step['prefix']}{n:05}" for n in range(first, min(first + 500, step["keys"]))]
            for result in await self.client.batch_write([quorate.Set(key, "x" * step["bytes"]) for key in keys]):
                if isinstance(result, QuorateError):
                    raise result
        return {}

    async def do_list_under_fault(self, step: Any) -> Any:
        keys: list[str] = []
        listing: AsyncIterator[quorate.Listed] = self.client.list(step["prefix"], values=True)
        async for listed in listing:
            keys.append(listed.key)
            if len(keys) == step["after_keys"]:
                for fault in step["faults"]:
                    await self.do_fault(fault)
        return {"count": len(keys), "in_order": keys == sorted(set(keys))}


async def main(folder: str, variant: str) -> None:
    harness = Harness()
    for file in sorted(Path(folder).glob("*.json")):
        for case in json.loads(file.read_text()):
            # Under faults both clients are the same code.
            if variant == "threads" and any("faults" in step for step in case["steps"]):
                continue
            started = await harness.ask(ask="start", case=case)
            player = Case(harness, case, started, is_threaded=variant == "threads")
            try:
                problem = await player.play()
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            await player.client.close()
            await harness.ask(ask="end", case=case["case"], problem=problem)


asyncio.run(main(*sys.argv[1:]))
