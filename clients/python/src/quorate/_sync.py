"""The client for threads: the client for asyncio, whose event loop runs in a thread of its own.

So both clients keep the same rules. A call may come from any thread, and several at once. A process that forks makes its
clients after the fork.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar, Union

from . import _messages as messages
from ._async import DEADLINE_DEFAULT, AsyncClient, AsyncListing, AsyncWatching
from ._errors import ConditionFailed, NodeFailure, QuorateError
from ._pool import Backoff
from ._security import Path, Token
from ._types import (
    Acknowledged,
    Added,
    ClusterInfo,
    Delete,
    Event,
    KeyState,
    Listed,
    NodeHealth,
    Seconds,
    Set,
    TableCreated,
    TableInfo,
    Tls,
    Value,
    Versioned,
)

T = TypeVar("T")


class _Runner:
    """An event loop in a thread of its own, until it is closed, forgotten, or the process ends."""

    def __init__(self, client: AsyncClient) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="quorate", daemon=True)
        self._thread.start()
        self.close = weakref.finalize(self, _close, self._loop, self._thread, client)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        if not self.close.alive:
            work.close()
            raise RuntimeError("the client is closed")
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("the client is used in its own event loop: use AsyncClient there")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise RuntimeError("the client was closed meanwhile: a write may have happened") from None
        except BaseException:
            # Ctrl-C, for one: nothing goes on behind the caller's back.
            future.cancel()
            raise


def _close(loop: asyncio.AbstractEventLoop, thread: threading.Thread, client: AsyncClient) -> None:
    async def end() -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()
        loop.stop()

    asyncio.run_coroutine_threadsafe(end(), loop)
    # A client that is forgotten may be collected in any thread.
    if threading.current_thread() is not thread:
        thread.join()
        loop.close()


class Client:
    """A client of one cluster. Threads may share it::

        with quorate.Client(["127.0.0.1:8001", "127.0.0.1:8002"]) as client:
            client.set("greeting", "hello")
            print(client.get("greeting").value)

    It connects on first use. A write that is interrupted, such as by Ctrl-C, may have happened.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        deadline: Seconds = DEADLINE_DEFAULT,
        tls: Tls | bool | None = None,
        token: Token | None = None,
        token_file: Path | None = None,
    ) -> None:
        """
        :param addresses: Nodes, each as ``host:port``. Name several: the client passes over nodes that are down.
        :param deadline: How long an operation may take, all tries together: 1 ms to 60 s.
        :param tls: ``True`` for TLS with the authorities of the system, or a :class:`Tls`. ``https://host:port`` does the
            same for one address.
        :param token: Sent as ``authorization: Bearer`` with each call: a text, or a function that returns one. Without TLS it
            goes to this machine alone.
        :param token_file: The file that has the token. It is read again once a second.
        :raises InvalidInput: If there is no address, an address does not parse, or there is no token in the file.
        """
        self._client = AsyncClient(
            addresses, deadline=deadline, tls=tls, token=token, token_file=token_file
        )
        self._runner = _Runner(self._client)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections. Clients that share them are closed too."""
        self._runner.close()

    def _with(self, client: AsyncClient) -> Client:
        other = copy.copy(self)
        other._client = client
        return other

    def with_deadline(self, deadline: Seconds) -> Client:
        """The same client with another deadline. The connections are shared."""
        return self._with(self._client.with_deadline(deadline))

    def table(self, name: str) -> Client:
        """The same client bound to another table: all that it reads, writes, lists and watches is there.

        The connections are shared. The table must exist: ``client.tables.create`` makes it.

        :raises InvalidInput: If it is no name of a table.
        """
        return self._with(self._client.table(name))

    @property
    def tables(self) -> Tables:
        """Creates, drops and lists tables."""
        return Tables(self)

    # Reads

    def get(self, key: str, *, from_one_replica: bool = False, at_least: str | None = None) -> Versioned | None:
        """Reads the latest value of ``key``: ``None`` if the key has none.

        :param from_one_replica: Reads what one replica holds: fast, and with no claim about the others. It may be old, and
            may be a conditional write that has not succeeded and never will.
        :param at_least: Reads what one replica holds, if that is of this version or later, and the latest value otherwise.
        :raises InvalidInput, Unavailable, NoSuchTable, Refused:
        """
        return self._runner.run(self._client.get(key, from_one_replica=from_one_replica, at_least=at_least))

    def state(self, key: str, *, from_one_replica: bool = False, at_least: str | None = None) -> KeyState:
        """Reads the state of ``key``: its value if it has one, and its version in any case. Otherwise as :meth:`get`."""
        return self._runner.run(self._client.state(key, from_one_replica=from_one_replica, at_least=at_least))

    def batch_get(self, keys: Iterable[str]) -> list[Versioned | NodeFailure | None]:
        """Reads the latest values of 1 to 1,000 keys, each linearizably and on its own.

        The results have the order of the keys: a value, ``None`` if the key has none, or the :class:`NodeFailure` that says
        why this key was not read.

        :raises InvalidInput, Unavailable, NoSuchTable, Refused: If no key was read.
        """
        return self._runner.run(self._client.batch_get(keys))

    # Writes

    def set(
        self,
        key: str,
        value: Value,
        *,
        if_version: str | None = None,
        if_absent: bool = False,
        if_present: bool = False,
        ttl: Seconds | None = None,
    ) -> Acknowledged:
        """Writes ``value`` under ``key``. A majority of the key's replicas then has it on disk.

        :param if_version: Writes only if the key has this version, which an earlier answer gave. Such a write takes effect
            once at most, and the client sends it again where a node dies.
        :param if_absent: Writes only if the key has no value.
        :param if_present: Writes only if the key has a value.
        :param ttl: Lets the value expire so many seconds after the write: not before, and a little later.
        :raises InvalidInput, NotApplied, OutcomeUnknown, ConditionFailed, NoSuchTable, Refused:
        """
        return self._runner.run(
            self._client.set(
                key, value, if_version=if_version, if_absent=if_absent, if_present=if_present, ttl=ttl
            )
        )

    def delete(self, key: str, *, if_version: str | None = None, if_present: bool = False) -> Acknowledged:
        """Removes the value of ``key``, if it has one. The conditions and errors are those of :meth:`set`."""
        return self._runner.run(self._client.delete(key, if_version=if_version, if_present=if_present))

    def add(self, key: str, delta: int = 1, *, since: str | None = None, ttl: Seconds | None = None) -> Added:
        """Adds ``delta`` to the number of ``key``, and returns the sum. A key without a value counts as 0.

        Without ``since``, an addition whose node dies may end with :class:`OutcomeUnknown`: sent again, it could count twice.

        :param since: A version of the key that an earlier answer gave. The addition then counts once, and the client sends it
            again where a node dies. :class:`ConditionFailed` says that more than eight conditional writes of the key came
            after that version: take the present one, which the error has.
        :param ttl: Lets the sum expire, as in :meth:`set`.
        :raises InvalidInput, NotApplied, OutcomeUnknown, ConditionFailed, NotANumber, NoSuchTable, Refused:
        """
        return self._runner.run(self._client.add(key, delta, since=since, ttl=ttl))

    def update(
        self, key: str, change: Callable[[Union[Versioned, None]], Union[Value, None]]
    ) -> Acknowledged | None:
        """Changes a value depending on what it is.

        Reads the key, asks ``change`` for the new value, and writes that if the key has not changed meanwhile. If it has, all
        is done again, until the deadline. ``None`` from ``change`` leaves the key alone, and the result is then ``None``.
        ``change`` may be called several times, in the caller's thread. The change takes effect once at most.

        :raises ConditionFailed: If others changed the key each time, until the deadline. Otherwise as :meth:`get` and
            :meth:`set`.
        """
        deadline = time.monotonic() + self._client._deadline
        backoff = Backoff.between_contenders()
        while True:
            state = self.with_deadline(deadline - time.monotonic()).state(key)
            value = change(state.found)
            if value is None:
                return None
            try:
                # The version holds for one change only, so that this one is not made twice, however often it is sent.
                client = self.with_deadline(deadline - time.monotonic())
                return client.set(key, value, if_version=state.version)
            except ConditionFailed:
                wait = backoff.next_wait(deadline)
                if wait is None:
                    raise
                time.sleep(wait)

    def batch_write(self, writes: Iterable[Set | Delete]) -> list[Acknowledged | QuorateError]:
        """Writes and deletes 1 to 1,000 keys in one call: each on its own, in no order, with an outcome of its own.

        The results have the order of the writes. Their values have at most 60 MiB together. A write that certainly did not
        happen is sent again until the deadline, as is one that names a version.

        :raises InvalidInput, NotApplied, OutcomeUnknown, Refused: If no key was written.
        """
        return self._runner.run(self._client.batch_write(list(writes)))

    # Streams

    def list(
        self, prefix: str = "", *, start_after: str = "", limit: int | None = None, values: bool = False
    ) -> Listing:
        """Lists the keys that have a value and begin with ``prefix``, in the order of their bytes.

        The list goes on at another node where one fails. Each key is read linearizably, at some moment of the list: a list is
        not one moment of the cluster::

            for user in client.list("user:", values=True):
                print(user.key, user.value)

        :param start_after: Lists only keys above this one, which need not exist.
        :param limit: The most keys.
        :param values: Asks for the values too.
        :raises Unavailable: While it is read, where no node goes on with it until the deadline has passed. What was told
            before holds.
        """
        listing = self._client.list(prefix, start_after=start_after, limit=limit, values=values)
        return Listing(self._runner, listing)

    def watch(
        self, prefix: str = "", *, cursor: bytes = b"", values: bool = False, with_list: bool = False
    ) -> Watching:
        """Tells the changes of all keys that begin with ``prefix``, until the watch is closed.

        The watch goes on at another node where one fails, and misses nothing::

            with client.watch("user:", values=True, with_list=True) as events:
                for event in events:
                    print(event)

        Of every write that is called after :class:`Ready`, the watch tells that value or a later one of its key. Changes of one
        key come in the order in which they happened. A change may be told twice, with the same version. Another thread may
        close the watch: the iteration then ends.

        :param cursor: Goes on where an earlier watch of the same prefix was: its ``cursor``.
        :param values: Asks for the values too.
        :param with_list: Tells first what is there: a :class:`Changed` for each key, and :class:`Ready` after the last.
        """
        watching = self._client.watch(prefix, cursor=cursor, values=values, with_list=with_list)
        return Watching(self._runner, watching)

    def watch_key(
        self, key: str, *, cursor: bytes = b"", values: bool = False, with_list: bool = False
    ) -> Watching:
        """Tells the changes of one key, as :meth:`watch`."""
        watching = self._client.watch_key(key, cursor=cursor, values=values, with_list=with_list)
        return Watching(self._runner, watching)

    # The cluster

    def cluster_info(self) -> ClusterInfo:
        """Reads the cluster's nodes and parameters, as the first node that answers sees them."""
        return self._runner.run(self._client.cluster_info())

    def health(self) -> NodeHealth:
        """Reads the health of the first node that answers. With one address, that is the health of this node."""
        return self._runner.run(self._client.health())


class Listing(Iterator[Listed]):
    """The keys of a list, one after the other. A page is asked for when it is wanted."""

    def __init__(self, runner: _Runner, listing: AsyncListing) -> None:
        self._runner = runner
        self._listing = listing
        self._page: deque[Listed] = listing._page

    def __iter__(self) -> Listing:
        return self

    def __next__(self) -> Listed:
        while not self._page:
            if not self._runner.run(self._listing.next_page()):
                raise StopIteration
        return self._page.popleft()

    def close(self) -> None:
        """Ends the list."""
        self._runner.run(self._listing.aclose())

    def collect(self) -> list[Listed]:
        """Lists all keys at once."""
        return [listed for listed in self]

    def __enter__(self) -> Listing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Watching(Iterator[Event]):
    """The events of a watch, one after the other, until it is closed."""

    def __init__(self, runner: _Runner, watching: AsyncWatching) -> None:
        self._runner = runner
        self._watching = watching

    @property
    def cursor(self) -> bytes:
        """Where a later watch of the same keys goes on, after the event that was told last. Empty: nowhere."""
        return self._watching.cursor

    def __iter__(self) -> Watching:
        return self

    def __next__(self) -> Event:
        event = self._runner.run(self._next())
        if event is None:
            raise StopIteration
        return event

    async def _next(self) -> Event | None:
        # No StopAsyncIteration crosses a future.
        async for event in self._watching:
            return event
        return None

    def close(self) -> None:
        """Ends the watch."""
        self._runner.run(self._watching.aclose())

    def __enter__(self) -> Watching:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Tables:
    """The tables of a cluster."""

    def __init__(self, client: Client) -> None:
        self._runner = client._runner
        self._tables = client._client.tables

    def create(
        self,
        name: str,
        *,
        default_ttl: Seconds | None = None,
        value_bytes_max: int | None = None,
        quota_bytes: int | None = None,
        if_missing: bool = False,
    ) -> TableCreated:
        """Creates a table, empty. Of many calls for one name at once, one creates it.

        :param default_ttl: The time to live of values that are written without one.
        :param value_bytes_max: The greatest value in bytes.
        :param quota_bytes: About how many bytes all keys and values may have. Nodes learn of it within seconds.
        :param if_missing: Takes a table that is there already, if it has the settings that are given. Without settings, any
            will do.
        :raises InvalidInput, NotApplied, OutcomeUnknown, TableExists, Refused:
        """
        return self._runner.run(
            self._tables.create(
                name,
                default_ttl=default_ttl,
                value_bytes_max=value_bytes_max,
                quota_bytes=quota_bytes,
                if_missing=if_missing,
            )
        )

    def drop(self, name: str) -> None:
        """Drops a table, with all of its keys. A later table of the same name is empty.

        :class:`OutcomeUnknown` says that the table may be dropped in part: its keys cannot be used any more. Drop it again,
        unless somebody may have created another table of its name meanwhile.

        :raises InvalidInput, NotApplied, OutcomeUnknown, NoSuchTable, Refused:
        """
        self._runner.run(self._tables.drop(name))

    def get(self, name: str) -> TableInfo | None:
        """Reads a table's settings: ``None`` if there is no table of this name."""
        return self._runner.run(self._tables.get(name))

    def list(self) -> list[TableInfo]:
        """Lists the tables in the order of their names, ``default`` included."""
        return self._runner.run(self._tables.list())
