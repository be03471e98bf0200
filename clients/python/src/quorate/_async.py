"""The client for asyncio."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Union

from . import _api as api
from . import _messages as messages
from . import _pool as pool
from ._errors import (
    ConditionFailed,
    InvalidInput,
    NodeFailure,
    NoSuchTable,
    NotApplied,
    OutcomeUnknown,
    QuorateError,
    Refused,
    TryNext,
    Unavailable,
)
from ._messages import BadAnswer
from ._pool import Backoff, Node, Operation, Pool, Stream
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
    Ready,
    Reset,
    Seconds,
    Set,
    TableCreated,
    TableInfo,
    Tls,
    Value,
    Versioned,
)

DEADLINE_DEFAULT = 5.0
SILENCE_MAX = 25.0
"""How long a watch may be silent: nodes send something every 10 s."""

Change = Callable[[Union[Versioned, None]], Union[Value, None, Awaitable[Union[Value, None]]]]


def clamped(deadline: Seconds) -> float:
    return min(max(messages.seconds_of(deadline), pool.DEADLINE_MIN), pool.DEADLINE_MAX)


class AsyncClient:
    """A client of one cluster, for asyncio.

    It is used in one event loop, and connects on first use::

        async with quorate.AsyncClient(["127.0.0.1:8001", "127.0.0.1:8002"]) as client:
            await client.set("greeting", "hello")

    A task that is cancelled during a write leaves the outcome of the write unknown.
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
        self._pool = Pool(addresses, tls, token, token_file)
        self._deadline = clamped(deadline)
        self._table = ""

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections. Clients that share them are closed too."""
        await self._pool.close()

    def with_deadline(self, deadline: Seconds) -> AsyncClient:
        """The same client with another deadline. The connections are shared."""
        other = copy.copy(self)
        other._deadline = clamped(deadline)
        return other

    def table(self, name: str) -> AsyncClient:
        """The same client bound to another table: all that it reads, writes, lists and watches is there.

        The connections are shared. The table must exist: ``client.tables.create`` makes it.

        :raises InvalidInput: If it is no name of a table.
        """
        other = copy.copy(self)
        other._table = messages.check_table(name)
        return other

    @property
    def tables(self) -> AsyncTables:
        """Creates, drops and lists tables."""
        return AsyncTables(self)

    # Reads

    async def get(
        self, key: str, *, from_one_replica: bool = False, at_least: str | None = None
    ) -> Versioned | None:
        """Reads the latest value of ``key``: ``None`` if the key has none.

        :param from_one_replica: Reads what one replica holds: fast, and with no claim about the others. It may be old, and
            may be a conditional write that has not succeeded and never will.
        :param at_least: Reads what one replica holds, if that is of this version or later, and the latest value otherwise.
        :raises InvalidInput, Unavailable, NoSuchTable, Refused:
        """
        return (await self.state(key, from_one_replica=from_one_replica, at_least=at_least)).found

    async def state(
        self, key: str, *, from_one_replica: bool = False, at_least: str | None = None
    ) -> KeyState:
        """Reads the state of ``key``: its value if it has one, and its version in any case. Otherwise as :meth:`get`."""
        request = api.GetRequest(key=messages.check_key(key), table=self._table)
        if at_least is not None:
            request.at_least = messages.check_version(at_least)
        if from_one_replica or at_least is not None:
            request.consistency = api.ONE

        def parse(node: Node, answer: api.GetResponse) -> KeyState:
            try:
                return messages.key_state(key, answer)
            except BadAnswer as problem:
                raise TryNext(NodeFailure(node.address, f"bad answer: {problem}")) from None

        return await self._pool.read(Operation(self._deadline), pool.GET, request, parse)

    async def batch_get(self, keys: Iterable[str]) -> list[Versioned | NodeFailure | None]:
        """Reads the latest values of 1 to 1,000 keys, each linearizably and on its own.

        The results have the order of the keys: a value, ``None`` if the key has none, or the :class:`NodeFailure` that says
        why this key was not read.

        :raises InvalidInput, Unavailable, NoSuchTable, Refused: If no key was read.
        """
        if isinstance(keys, (str, bytes)):
            raise InvalidInput(f"the keys are {type(keys).__name__}: give a list of str")
        names = [messages.check_key(key) for key in keys]
        request = api.BatchGetRequest(keys=names, table=self._table)

        def parse(node: Node, answer: api.BatchGetResponse) -> list[Versioned | NodeFailure | None]:
            try:
                return messages.batch_found(node.address, names, answer)
            except BadAnswer as problem:
                raise TryNext(NodeFailure(node.address, f"bad answer: {problem}")) from None

        return await self._pool.read(Operation(self._deadline), pool.BATCH_GET, request, parse)

    # Writes

    async def set(
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
        write = Set(key, value, if_version, if_absent, if_present, ttl)
        request, may_be_resent = messages.set_request(self._table, write)
        return await self._write(pool.SET, request, may_be_resent)

    async def delete(self, key: str, *, if_version: str | None = None, if_present: bool = False) -> Acknowledged:
        """Removes the value of ``key``, if it has one. The conditions and errors are those of :meth:`set`."""
        request, may_be_resent = messages.delete_request(self._table, Delete(key, if_version, if_present))
        return await self._write(pool.DELETE, request, may_be_resent)

    async def _write(
        self, method: pool.Method, request: api.SetRequest | api.DeleteRequest, may_be_resent: bool
    ) -> Acknowledged:
        node, answer = await self._send(Operation(self._deadline), method, request, may_be_resent)
        return messages.acknowledged(node.address, answer)

    async def _send(
        self,
        operation: Operation,
        method: pool.Method,
        request: api.SetRequest | api.DeleteRequest | api.AddRequest,
        may_be_resent: bool,
        is_resend: bool = False,
    ) -> tuple[Node, object]:
        if not may_be_resent:
            return await self._pool.write(operation, method, request)
        again = copy.deepcopy(request)
        again.resend = True
        return await self._pool.write_until_known(
            operation, method, lambda resend: again if resend or is_resend else request
        )

    async def add(
        self, key: str, delta: int = 1, *, since: str | None = None, ttl: Seconds | None = None
    ) -> Added:
        """Adds ``delta`` to the number of ``key``, and returns the sum. A key without a value counts as 0.

        Without ``since``, an addition whose node dies may end with :class:`OutcomeUnknown`: sent again, it could count twice.

        :param since: A version of the key that an earlier answer gave. The addition then counts once, and the client sends it
            again where a node dies. :class:`ConditionFailed` says that more than eight conditional writes of the key came
            after that version: take the present one, which the error has.
        :param ttl: Lets the sum expire, as in :meth:`set`.
        :raises InvalidInput, NotApplied, OutcomeUnknown, ConditionFailed, NotANumber, NoSuchTable, Refused:
        """
        request, may_be_resent = messages.add_request(self._table, key, delta, since, ttl)
        node, answer = await self._send(Operation(self._deadline), pool.ADD, request, may_be_resent)
        assert isinstance(answer, api.AddResponse)
        return messages.added(node.address, answer)

    async def update(self, key: str, change: Change) -> Acknowledged | None:
        """Changes a value depending on what it is.

        Reads the key, asks ``change`` for the new value, and writes that if the key has not changed meanwhile. If it has, all
        is done again, until the deadline. ``None`` from ``change`` leaves the key alone, and the result is then ``None``.
        ``change`` may be called several times, and may be a coroutine function. The change takes effect once at most.

        :raises ConditionFailed: If others changed the key each time, until the deadline. Otherwise as :meth:`get` and
            :meth:`set`.
        """
        deadline = time.monotonic() + self._deadline
        backoff = Backoff.between_contenders()
        while True:
            state = await self.with_deadline(deadline - time.monotonic()).state(key)
            value = change(state.found)
            if isinstance(value, Awaitable):
                value = await value
            if value is None:
                return None
            try:
                # The version holds for one change only, so that this one is not made twice, however often it is sent.
                client = self.with_deadline(deadline - time.monotonic())
                return await client.set(key, value, if_version=state.version)
            except ConditionFailed:
                if not await backoff.wait(deadline):
                    raise

    async def batch_write(self, writes: Iterable[Set | Delete]) -> list[Acknowledged | QuorateError]:
        """Writes and deletes 1 to 1,000 keys in one call: each on its own, in no order, with an outcome of its own.

        The results have the order of the writes. Their values have at most 60 MiB together. A write that certainly did not
        happen is sent again until the deadline, as is one that names a version.

        :raises InvalidInput, NotApplied, OutcomeUnknown, Refused: If no key was written.
        """
        requests = [self._batch_entry(write) for write in writes]
        if not 1 <= len(requests) <= messages.BATCH_KEYS_MAX:
            raise InvalidInput(
                f"the batch has {len(requests)} writes: 1 to {messages.BATCH_KEYS_MAX} are accepted"
            )
        places = set()
        for place, _, _ in requests:
            if place in places:
                raise InvalidInput(
                    f"two writes of the batch are for key {place[1]!r}: write it once, or in two batches"
                )
            places.add(place)
        self._pool.check_use()
        operation = Operation(self._deadline)
        outcomes: dict[int, Acknowledged | QuorateError] = {}
        left = list(range(len(requests)))
        backoff = Backoff()
        while True:
            batch = api.BatchWriteRequest(entries=[requests[index][1] for index in left])
            not_applied: list[tuple[int, NodeFailure]] = []
            try:
                node, answer = await self._pool.write(operation, pool.BATCH_WRITE, batch)
                if len(answer.results) != len(left):
                    problem = f"bad answer: {len(answer.results)} results for {len(left)} writes"
                    raise OutcomeUnknown(NodeFailure(node.address, problem))
                for index, result in zip(left, answer.results):
                    try:
                        outcomes[index] = _batch_outcome(node, result)
                    except TryNext as failed:
                        not_applied.append((index, failed.failure))
            except QuorateError as error:
                if len(left) == len(requests) and not isinstance(error, OutcomeUnknown):
                    raise
                # Some entries of an earlier call may be written.
                outcomes.update((index, error) for index in left)
            if not not_applied:
                break
            if not await backoff.wait(operation.deadline):
                outcomes.update(
                    (index, NotApplied(last, operation.elapsed())) for index, last in not_applied
                )
                break
            left = [index for index, _ in not_applied]
        for index, (_, entry, may_be_resent) in enumerate(requests):
            if may_be_resent and isinstance(outcomes[index], OutcomeUnknown) and not operation.is_over():
                outcomes[index] = await self._find_out(operation, entry)
        return [outcomes[index] for index in range(len(requests))]

    def _batch_entry(self, write: Set | Delete) -> tuple[tuple[str, str], api.BatchWriteEntry, bool]:
        """Table and key, the entry, and whether it may be sent again."""
        if not isinstance(write, (Set, Delete)):
            raise InvalidInput(f"a write is {type(write).__name__}: give quorate.Set or quorate.Delete")
        table = self._table if write.table is None else messages.check_table(write.table)
        if isinstance(write, Set):
            request, may_be_resent = messages.set_request(table, write)
            return (table, write.key), api.BatchWriteEntry(set=request), may_be_resent
        deletion, may_be_resent = messages.delete_request(table, write)
        return (table, write.key), api.BatchWriteEntry(delete=deletion), may_be_resent

    async def _find_out(self, operation: Operation, entry: api.BatchWriteEntry) -> Acknowledged | QuorateError:
        """Sends an entry again whose outcome is unknown, until it is known. It takes effect once at most."""
        try:
            if entry.HasField("set"):
                node, answer = await self._send(operation, pool.SET, entry.set, True, is_resend=True)
            else:
                node, answer = await self._send(operation, pool.DELETE, entry.delete, True, is_resend=True)
            return messages.acknowledged(node.address, answer)
        except NotApplied as error:
            # The batch may have written it, whatever became of these tries.
            return OutcomeUnknown(error.last)
        except Refused as error:
            return OutcomeUnknown(error.node)
        except QuorateError as error:
            return error

    # Streams

    def list(
        self, prefix: str = "", *, start_after: str = "", limit: int | None = None, values: bool = False
    ) -> AsyncListing:
        """Lists the keys that have a value and begin with ``prefix``, in the order of their bytes.

        The list goes on at another node where one fails. Each key is read linearizably, at some moment of the list: a list is
        not one moment of the cluster::

            async for user in client.list("user:", values=True):
                print(user.key, user.value)

        :param start_after: Lists only keys above this one, which need not exist.
        :param limit: The most keys.
        :param values: Asks for the values too.
        :raises Unavailable: While it is read, where no node goes on with it until the deadline has passed. What was told
            before holds.
        """
        request = api.ListRequest(
            table=self._table,
            prefix=messages.check_prefix("prefix", prefix),
            start_after=messages.check_prefix("key to start after", start_after),
            values=values,
        )
        if limit is not None and limit < 0:
            raise InvalidInput(f"a limit of {limit} keys is not accepted: give 0 or more, or none")
        return AsyncListing(self._pool, self._deadline, request, limit)

    def watch(
        self, prefix: str = "", *, cursor: bytes = b"", values: bool = False, with_list: bool = False
    ) -> AsyncWatching:
        """Tells the changes of all keys that begin with ``prefix``, until the watch is closed.

        The watch goes on at another node where one fails, and misses nothing::

            async with client.watch("user:", values=True, with_list=True) as events:
                async for event in events:
                    print(event)

        Of every write that is called after :class:`Ready`, the watch tells that value or a later one of its key. Changes of one
        key come in the order in which they happened. A change may be told twice, with the same version.

        :param cursor: Goes on where an earlier watch of the same prefix was: its ``cursor``.
        :param values: Asks for the values too.
        :param with_list: Tells first what is there: a :class:`Changed` for each key, and :class:`Ready` after the last.
        """
        request = api.WatchRequest(
            table=self._table,
            prefix=messages.check_prefix("prefix", prefix),
            cursor=cursor,
            values=values,
            with_list=with_list,
        )
        return AsyncWatching(self._pool, self._deadline, request)

    def watch_key(
        self, key: str, *, cursor: bytes = b"", values: bool = False, with_list: bool = False
    ) -> AsyncWatching:
        """Tells the changes of one key, as :meth:`watch`."""
        request = api.WatchRequest(
            table=self._table, key=messages.check_key(key), cursor=cursor, values=values, with_list=with_list
        )
        return AsyncWatching(self._pool, self._deadline, request)

    # The cluster

    async def cluster_info(self) -> ClusterInfo:
        """Reads the cluster's nodes and parameters, as the first node that answers sees them."""
        return await self._pool.read(
            Operation(self._deadline),
            pool.INFO,
            api.ClusterInfoRequest(),
            lambda _, answer: messages.cluster_info(answer),
        )

    async def health(self) -> NodeHealth:
        """Reads the health of the first node that answers. With one address, that is the health of this node."""
        return await self._pool.read(
            Operation(self._deadline), pool.HEALTH, api.HealthRequest(), lambda _, answer: messages.node_health(answer)
        )


def _batch_outcome(node: Node, result: api.BatchWriteResult) -> Acknowledged | QuorateError:
    """The outcome of an entry. Raises ``TryNext`` if it certainly did not happen."""
    if not result.HasField("error"):
        try:
            return messages.acknowledged(node.address, result)
        except OutcomeUnknown as error:
            return error
    said = result.error
    current = {"version": said.version, "has_value": "true" if said.has_value else "false"}
    failure = NodeFailure(
        node.address,
        said.message,
        messages.code_name(said.code),
        said.reason or None,
        current if said.version else {},
    )
    verdict = messages.judge_write(failure)
    if isinstance(verdict, TryNext):
        raise verdict
    return verdict


class _Failing:
    """How long a stream has failed for, and how long it waits before the next try."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self.heard()

    def heard(self) -> None:
        self._backoff = Backoff()
        self._since = time.monotonic()

    async def wait(self, last: NodeFailure) -> None:
        """Waits before the next try. Raises ``Unavailable`` where the stream has failed for too long."""
        if not await self._backoff.wait(self._since + self._deadline):
            raise Unavailable(last, time.monotonic() - self._since) from None


class AsyncListing:
    """The keys of a list, one after the other: an asynchronous iterator. A page is asked for when it is wanted."""

    def __init__(self, nodes: Pool, deadline: float, request: api.ListRequest, limit: int | None) -> None:
        self._pool = nodes
        self._deadline = deadline
        self._request = request
        self._left = limit
        self._stream: Stream | None = None
        self._page: deque[Listed] = deque()
        self._is_done = limit == 0
        self._failing: _Failing | None = None

    def __aiter__(self) -> AsyncListing:
        return self

    async def __anext__(self) -> Listed:
        while not self._page:
            if not await self.next_page():
                raise StopAsyncIteration
        return self._page.popleft()

    async def next_page(self) -> bool:
        """Reads the next page. ``False`` after the last."""
        if self._is_done:
            return False
        self._failing = self._failing or _Failing(self._deadline)
        while True:
            try:
                page = await self._read()
                self._failing.heard()
                entries = [messages.listed(entry) for entry in page.entries]
            except TryNext as failed:
                self._give_up_node()
                await self._ended(self._failing.wait(failed.failure))
                continue
            except BadAnswer as problem:
                assert self._stream is not None, "a page came from it"
                failure = NodeFailure(self._stream.node.address, f"bad answer: {problem}")
                self._give_up_node()
                await self._ended(self._failing.wait(failure))
                continue
            except QuorateError:
                await self.aclose()
                raise
            except BaseException:
                # A read that was cancelled goes on after the last page.
                self._drop_stream()
                raise
            self._page.extend(entries)
            if page.HasField("next"):
                self._request.start_after = page.next
            if self._left is not None:
                self._left = max(self._left - len(entries), 0)
            if not page.HasField("next") or self._left == 0:
                self._is_done = True
                self._drop_stream()
            # The time that the reader takes does not count.
            self._failing = None
            return True

    async def _read(self) -> api.ListResponse:
        if self._stream is None:
            node = await self._pool.live_node(Operation(self._deadline))
            self._request.limit = self._left or 0
            self._stream = Stream(self._pool, node, pool.LIST, self._request)
            await self._stream.opened(self._deadline)
        page: api.ListResponse | None = await self._stream.read(self._deadline)
        if page is None:
            # A list that was not cut off has ended with a page without `next`.
            raise TryNext(NodeFailure(self._stream.node.address, "the list was cut off"))
        return page

    async def _ended(self, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except Unavailable:
            self._is_done = True
            raise

    def _give_up_node(self) -> None:
        if self._stream is not None:
            self._pool.avoid(self._stream.node)
        self._drop_stream()

    def _drop_stream(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None

    async def aclose(self) -> None:
        """Ends the list."""
        self._is_done = True
        self._page.clear()
        self._drop_stream()

    async def collect(self) -> list[Listed]:
        """Lists all keys at once."""
        return [listed async for listed in self]

    async def __aenter__(self) -> AsyncListing:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class AsyncWatching:
    """The events of a watch, one after the other: an asynchronous iterator that ends when it is closed.

    A read that is cancelled loses nothing: the next one goes on after the last event that was told.
    """

    def __init__(self, nodes: Pool, deadline: float, request: api.WatchRequest) -> None:
        self._pool = nodes
        self._deadline = deadline
        self._request = request
        self._stream: Stream | None = None
        self._failing: _Failing | None = None
        # Whether the reader knows that changes are told: it is told once, and again after a reset.
        self._is_ready = False
        # Whether something was told that a new beginning would contradict.
        self._has_told = False
        self._is_done = False

    @property
    def cursor(self) -> bytes:
        """Where a later watch of the same keys goes on, after the event that was told last. Empty: nowhere."""
        return self._request.cursor

    def __aiter__(self) -> AsyncWatching:
        return self

    async def __anext__(self) -> Event:
        self._failing = self._failing or _Failing(self._deadline)
        while not self._is_done:
            if self._stream is None and not self._request.cursor and self._has_told:
                # Without a cursor a node begins anew. Keys that were told before may have changed in between.
                return self._tell(Reset())
            try:
                answer = await self._read()
                self._failing.heard()
                event = messages.event_of(answer)
            except TryNext as failed:
                await self._give_up_node(failed.failure)
                continue
            except BadAnswer as problem:
                assert self._stream is not None, "an event came from it"
                await self._give_up_node(NodeFailure(self._stream.node.address, f"bad answer: {problem}"))
                continue
            except QuorateError:
                await self.aclose()
                raise
            except BaseException:
                self._drop_stream()
                raise
            self._request.cursor = answer.cursor
            # A watch that went on at another node has missed nothing, so that `Ready` is no news then.
            if event is not None and not (isinstance(event, Ready) and self._is_ready):
                # The time that the reader takes does not count.
                self._failing = None
                return self._tell(event)
        raise StopAsyncIteration

    def _tell(self, event: Event) -> Event:
        if isinstance(event, Reset):
            self._is_ready = self._has_told = False
        else:
            self._is_ready = self._is_ready or isinstance(event, Ready)
            self._has_told = True
        return event

    async def _read(self) -> api.WatchResponse:
        if self._stream is None:
            node = await self._pool.live_node(Operation(self._deadline))
            self._stream = Stream(self._pool, node, pool.WATCH, self._request)
            await self._stream.opened(self._deadline)
        answer: api.WatchResponse | None = await self._stream.read(SILENCE_MAX)
        if answer is None:
            raise TryNext(NodeFailure(self._stream.node.address, "the watch has ended"))
        return answer

    async def _give_up_node(self, failure: NodeFailure) -> None:
        if self._stream is not None:
            self._pool.avoid(self._stream.node)
        self._drop_stream()
        assert self._failing is not None, "it was set before the read"
        try:
            await self._failing.wait(failure)
        except Unavailable:
            self._is_done = True
            raise

    def _drop_stream(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None

    async def aclose(self) -> None:
        """Ends the watch."""
        self._is_done = True
        self._drop_stream()

    async def __aenter__(self) -> AsyncWatching:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class AsyncTables:
    """The tables of a cluster."""

    def __init__(self, client: AsyncClient) -> None:
        self._pool = client._pool
        self._deadline = client._deadline

    async def create(
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
        request = messages.create_request(name, default_ttl, value_bytes_max, quota_bytes, if_missing)
        operation = Operation(self._deadline)
        backoff = Backoff()
        while True:
            try:
                node, answer = await self._pool.write(operation, pool.TABLE_CREATE, request)
                break
            except OutcomeUnknown:
                # A table that an earlier try has created will do.
                if not if_missing or not await backoff.wait(operation.deadline):
                    raise
        try:
            return messages.table_created(answer)
        except BadAnswer as problem:
            raise OutcomeUnknown(NodeFailure(node.address, f"bad answer: {problem}")) from None

    async def drop(self, name: str) -> None:
        """Drops a table, with all of its keys. A later table of the same name is empty.

        :class:`OutcomeUnknown` says that the table may be dropped in part: its keys cannot be used any more. Drop it again,
        unless somebody may have created another table of its name meanwhile.

        :raises InvalidInput, NotApplied, OutcomeUnknown, NoSuchTable, Refused:
        """
        request = api.TableDropRequest(name=messages.check_created_table(name))
        await self._pool.write(Operation(self._deadline), pool.TABLE_DROP, request)

    async def get(self, name: str) -> TableInfo | None:
        """Reads a table's settings: ``None`` if there is no table of this name."""
        messages.check_table(name)

        def parse(node: Node, answer: api.TableGetResponse) -> TableInfo:
            return _table_of(node, answer.table)

        try:
            request = api.TableGetRequest(name=name)
            return await self._pool.read(Operation(self._deadline), pool.TABLE_GET, request, parse)
        except NoSuchTable:
            return None

    async def list(self) -> list[TableInfo]:
        """Lists the tables in the order of their names, ``default`` included."""
        operation = Operation(self._deadline)
        backoff = Backoff()
        tables: list[TableInfo] = []
        while True:
            node: Node | None = None
            try:
                node = await self._pool.live_node(operation)
                await _read_tables(self._pool, operation, node, tables)
                return tables
            except TryNext as failed:
                if node is not None:
                    self._pool.avoid(node)
                if not await backoff.wait(operation.deadline):
                    raise Unavailable(failed.failure, operation.elapsed()) from None


def _table_of(node: Node, table: api.Table) -> TableInfo:
    try:
        return messages.table_of(table)
    except BadAnswer as problem:
        raise TryNext(NodeFailure(node.address, f"bad answer: {problem}")) from None


async def _read_tables(nodes: Pool, operation: Operation, node: Node, tables: list[TableInfo]) -> None:
    request = api.TableListRequest(start_after=tables[-1].name if tables else "")
    stream = Stream(nodes, node, pool.TABLE_LIST, request, timeout=max(operation.left(), 0.001))
    try:
        while True:
            page: api.TableListResponse | None = await stream.read(operation.left())
            if page is None:
                raise TryNext(NodeFailure(node.address, "the list was cut off"))
            tables.extend(_table_of(node, table) for table in page.tables)
            if not page.HasField("next"):
                return
    finally:
        stream.cancel()
