"""The nodes of one cluster, and the rules by which an operation moves from one of them to the next.

Contract: a read goes to one node after the other. A node that fails, or has not answered after the hedge delay, is
avoided, and the next one is asked too. The first answer counts. A write is sent to one node at a time, and to the next
only while it certainly did not happen. A write that takes effect once at most, however often it is sent, moves on as a
read does.

A paused node accepts a request as readily as a live one. Therefore a write, a list and a watch go without a question only
to a node that answered during the last second. Any other node is first asked for its health.

A node that does not know the caller is passed over: it may not have heard of a new token yet. So is one that takes TLS alone,
by a client without it. Where all nodes say so, the operation ends at once.

A write is given to the library only once there is a connection. So a failure before that proves that it was not sent. Any
failure after it that is not the node's own word leaves the outcome unknown.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import grpc
import grpc.aio

from . import _api as api
from ._errors import (
    ConditionFailed,
    InvalidInput,
    NodeFailure,
    NotANumber,
    NotApplied,
    OutcomeUnknown,
    QuorateError,
    Refused,
    TryNext,
    Unavailable,
)
from ._messages import code_name, failure_of, is_of_caller, judge_read, judge_write
from ._security import Path, Token, check_tls, checked, is_this_machine, token_source
from ._types import Tls

T = TypeVar("T")

PROBE_INTERVAL = 1.0
"""How often an avoided node is asked for its health."""
HEDGE_DELAY_PART = 10
"""The hedge delay is this part of the operation's deadline,"""
HEDGE_DELAY_MIN = 0.005
"""but at least this: a loaded node may need as long for its disk,"""
HEDGE_DELAY_MAX = 1.0
"""and at most this."""
HEALTH_HEDGE_DELAYS = 3
"""Before a write, a node's health is waited for this many hedge delays."""
RECENT_TIME_MAX = 1.0
"""How long an answer counts as recent."""
DEADLINE_MIN = 0.001
DEADLINE_MAX = 60.0
MESSAGE_BYTES_MAX = 64 << 20

_OPTIONS: list[tuple[str, Any]] = [
    # The library would send again what may have happened.
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
    # A cut that TCP does not report is found within seconds.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A connection may take a second, and a node that comes back is found within another one.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # With HTTP/2's default window a large value would cost a round trip for every 64 KiB.
    ("grpc.http2.lookahead_bytes", 4 << 20),
    # Two clients of one process share no connection, nor its backoff.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.enable_http_proxy", 0),
]


class Method:
    """A method of the API. Its path is that of the wire, whatever the client's messages are called."""

    def __init__(self, path: str, request: Any, answer: Any) -> None:
        self.path = path
        self.serialize: Callable[[Any], bytes] = request.SerializeToString
        self.parse: Callable[[bytes], Any] = answer.FromString


INFO = Method("/api.Cluster/Info", api.ClusterInfoRequest, api.ClusterInfoResponse)
GET = Method("/api.Cluster/Get", api.GetRequest, api.GetResponse)
BATCH_GET = Method("/api.Cluster/BatchGet", api.BatchGetRequest, api.BatchGetResponse)
LIST = Method("/api.Cluster/List", api.ListRequest, api.ListResponse)
SET = Method("/api.Cluster/Set", api.SetRequest, api.SetResponse)
DELETE = Method("/api.Cluster/Delete", api.DeleteRequest, api.DeleteResponse)
WATCH = Method("/api.Cluster/Watch", api.WatchRequest, api.WatchResponse)
BATCH_WRITE = Method("/api.Cluster/BatchWrite", api.BatchWriteRequest, api.BatchWriteResponse)
ADD = Method("/api.Cluster/Add", api.AddRequest, api.AddResponse)
TABLE_CREATE = Method("/api.Tables/Create", api.TableCreateRequest, api.TableCreateResponse)
TABLE_GET = Method("/api.Tables/Get", api.TableGetRequest, api.TableGetResponse)
TABLE_LIST = Method("/api.Tables/List", api.TableListRequest, api.TableListResponse)
TABLE_DROP = Method("/api.Tables/Drop", api.TableDropRequest, api.TableDropResponse)
HEALTH = Method("/api.Node/Health", api.HealthRequest, api.HealthResponse)


class Operation:
    """The times of one operation, all tries together."""

    def __init__(self, time_max: float) -> None:
        self.began = time.monotonic()
        self.deadline = self.began + time_max
        self.hedge_delay = min(max(time_max / HEDGE_DELAY_PART, HEDGE_DELAY_MIN), HEDGE_DELAY_MAX)

    def left(self) -> float:
        return max(self.deadline - time.monotonic(), 0.0)

    def is_over(self) -> bool:
        return time.monotonic() >= self.deadline

    def elapsed(self) -> float:
        return time.monotonic() - self.began


def jittered(seconds: float) -> float:
    """A random time between half of ``seconds`` and all of it."""
    return seconds / 2 + random.random() * seconds / 2


class Backoff:
    """The waits of one operation, with jitter: clients that failed together must not come back together."""

    def __init__(self, first: float = 0.010, longest: float = 0.500) -> None:
        self._next = first
        self._longest = longest

    @classmethod
    def between_contenders(cls) -> Backoff:
        """Between tries that failed because another client succeeded."""
        return cls(0.001, 0.064)

    def next_wait(self, deadline: float) -> float | None:
        """How long to wait before the next try; ``None`` where that would end after the deadline."""
        wait = jittered(self._next)
        self._next = min(2 * self._next, self._longest)
        return None if time.monotonic() + wait >= deadline else wait

    async def wait(self, deadline: float) -> bool:
        wait = self.next_wait(deadline)
        if wait is not None:
            await asyncio.sleep(wait)
        return wait is not None


class Node:
    """One node as the client sees it: its connection, and whether it answered recently."""

    def __init__(self, address: str, tls: Tls | bool | None, has_token: bool) -> None:
        self.address = address
        self._target, self._tls = _target(address, tls, has_token)
        if self._tls is not None:
            check_tls(self._tls)
        self._channel: grpc.aio.Channel | None = None
        self._calls: dict[str, Any] = {}
        self._answered_at: float | None = None
        self.is_avoided = False

    def channel(self) -> grpc.aio.Channel:
        if self._channel is None:
            if self._tls is None:
                self._channel = grpc.aio.insecure_channel(self._target, options=_OPTIONS)
            else:
                options = list(_OPTIONS)
                if self._tls.server_name is not None:
                    options.append(("grpc.ssl_target_name_override", self._tls.server_name))
                credentials = grpc.ssl_channel_credentials(self._tls.ca, self._tls.key, self._tls.certificate)
                self._channel = grpc.aio.secure_channel(self._target, credentials, options=options)
        return self._channel

    def call(self, method: Method, is_stream: bool = False) -> Any:
        """What makes calls of ``method``."""
        found = self._calls.get(method.path)
        if found is None:
            make = self.channel().unary_stream if is_stream else self.channel().unary_unary
            found = make(method.path, request_serializer=method.serialize, response_deserializer=method.parse)
            self._calls[method.path] = found
        return found

    def is_connected(self) -> bool:
        return self.channel().get_state() is grpc.ChannelConnectivity.READY

    def record_answer(self) -> None:
        """Records that the node answered: it is avoided no longer."""
        self._answered_at = time.monotonic()
        self.is_avoided = False

    def avoid(self) -> bool:
        """Records that the node failed, or has not answered for a while. Returns whether it was not avoided before."""
        was_avoided, self.is_avoided, self._answered_at = self.is_avoided, True, None
        return not was_avoided

    def answered_recently(self) -> bool:
        at = self._answered_at
        return not self.is_avoided and at is not None and time.monotonic() - at < RECENT_TIME_MAX

    def failure(self, error: grpc.aio.AioRpcError) -> NodeFailure:
        details = None
        for name, value in error.trailing_metadata() or ():
            if name == "grpc-status-details-bin" and isinstance(value, bytes):
                details = value
        code = code_name(error.code().value[0])
        return failure_of(self.address, code, error.details() or code, details)

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


def _target(address: str, tls: Tls | bool | None, has_token: bool) -> tuple[str, Tls | None]:
    def problem(what: str) -> InvalidInput:
        return InvalidInput(f"address {address!r}: {what}; host:port is accepted, such as 127.0.0.1:8001")

    if not isinstance(address, str):
        raise problem("it is no text")
    scheme, separator, authority = address.rpartition("://")
    if scheme not in ("", "http", "https") or (separator and not scheme):
        raise problem("only http and https are supported")
    if scheme == "http" and tls:
        raise problem("http has no encryption, and tls is given")
    try:
        parts = urlsplit(f"//{authority}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise problem("it does not parse") from None
    if parts.path not in ("", "/") or (parts.path and not scheme) or parts.query or parts.fragment or parts.username:
        raise problem("a path is not accepted")
    if not host:
        raise problem("the host is missing")
    if any(character.isspace() for character in authority):
        raise problem("it does not parse")
    if port is None:
        raise problem("the port is missing")
    is_encrypted = scheme == "https" or bool(tls)
    if has_token and not is_encrypted and not is_this_machine(host):
        raise problem("a token is not sent to another machine without TLS: give tls, with the CA of the cluster")
    credentials = tls if isinstance(tls, Tls) else Tls()
    host = f"[{host}]" if ":" in host else host
    return f"dns:///{host}:{port}", credentials if is_encrypted else None


class Pool:
    """The nodes of a client. Copies of the client share it."""

    def __init__(
        self, addresses: Sequence[str], tls: Tls | bool | None, token: Token | None, token_file: Path | None
    ) -> None:
        if isinstance(addresses, str):
            addresses = [addresses]
        if not addresses:
            raise InvalidInput("no address is given: name at least one node as host:port")
        self._token = token_source(token, token_file)
        self.nodes = [Node(address, tls, self._token is not None) for address in addresses]
        # A random beginning, so that many clients that live shortly spread over the nodes too.
        self.turn = random.randrange(1 << 16)
        self._probes: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    def check_use(self) -> None:
        """Connections belong to the event loop that made them."""
        if self._is_closed:
            raise RuntimeError("the client is closed")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("the client belongs to another event loop: make one in each loop")

    def metadata(self, node: Node) -> tuple[tuple[str, str], ...] | None:
        """What goes with a call. Raises ``Refused`` where there is no token: nothing was sent then."""
        if self._token is None:
            return None
        try:
            token = checked(self._token())
        except Exception as error:
            failure = NodeFailure(node.address, f"there is no token: {error}", "UNAUTHENTICATED")
            raise Refused(failure) from error
        return (("authorization", f"Bearer {token}"),)

    async def close(self) -> None:
        self._is_closed = True
        probes = list(self._probes)
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
        for node in self.nodes:
            await node.close()

    async def ask(self, node: Node, method: Method, request: Any, deadline: float) -> Any:
        """Asks one node, for a request without an effect. Raises what ``judge_read`` makes of a failure."""
        timeout = max(deadline - time.monotonic(), 0.001)
        try:
            return await node.call(method)(request, timeout=timeout, metadata=self.metadata(node))
        except grpc.aio.AioRpcError as error:
            raise judge_read(node.failure(error)) from None

    async def read(
        self, operation: Operation, method: Method, request: Any, parse: Callable[[Node, Any], T]
    ) -> T:
        """Reads until a node answers or the deadline has passed. ``parse`` may raise ``TryNext``."""
        self.check_use()

        async def ask(node: Node) -> T:
            return parse(node, await self.ask(node, method, request, operation.deadline))

        backoff = Backoff()
        while True:
            try:
                _, answer = await self._race(self.nodes_in_turn(), operation, ask)
                return answer
            except TryNext as last:
                if not await backoff.wait(operation.deadline):
                    raise Unavailable(last.failure, operation.elapsed()) from None

    async def write(self, operation: Operation, method: Method, request: Any) -> tuple[Node, Any]:
        """Writes until a node answers, the outcome is unknown, or the deadline has passed."""
        self.check_use()
        backoff = Backoff()
        while True:
            last: NodeFailure | None = None
            for _ in self.nodes:
                try:
                    node = await self.live_node(operation)
                except TryNext as failed:
                    last = failed.failure
                    break
                try:
                    return node, await self._send(operation, node, method, request)
                except TryNext as failed:
                    last = failed.failure
                if operation.is_over():
                    break
            if not await backoff.wait(operation.deadline):
                assert last is not None, "a client has at least one node, and it failed"
                raise NotApplied(last, operation.elapsed()) from None

    async def write_until_known(
        self, operation: Operation, method: Method, make: Callable[[bool], Any]
    ) -> tuple[Node, Any]:
        """Writes until a node says what became of it, or the deadline has passed.

        Only for a write that takes effect once at most, however often it is sent. ``make`` makes the request, and is told
        whether an earlier try may have arrived.
        """
        self.check_use()
        backoff = Backoff()
        tries: dict[asyncio.Task[Any], tuple[Node, bool]] = {}
        # The tries that may have taken effect: those under way, and those whose end says nothing.
        is_open = 0
        failed = 0
        last: NodeFailure | None = None
        unknown: NodeFailure | None = None
        declined: QuorateError | None = None
        is_ending = False
        try:
            while True:
                # A further try goes out when the one before has failed or the hedge delay has passed.
                if len(tries) < len(self.nodes) and not is_ending:
                    try:
                        node = await self.live_node(operation)
                        is_resend = is_open > 0
                        is_open += 1
                        task = asyncio.ensure_future(self._send(operation, node, method, make(is_resend)))
                        tries[task] = (node, is_resend)
                    except TryNext as failure:
                        failed = len(self.nodes)
                        last = failure.failure
                    except Refused as refused:
                        if is_open == 0:
                            raise
                        failed = len(self.nodes)
                        last = refused.node
                if tries:
                    done, _ = await asyncio.wait(
                        tries, timeout=operation.hedge_delay, return_when=asyncio.FIRST_COMPLETED
                    )
                    if not done:
                        continue
                    task = done.pop()
                    node, is_resend = tries.pop(task)
                    try:
                        return node, task.result()
                    except TryNext as failure:
                        is_open -= 1
                        failed += 1
                        last = failure.failure
                    except OutcomeUnknown as error:
                        # A node that looked for an earlier try and cannot know more: nor can another one.
                        looked = error.node.reason == "OUTCOME_UNKNOWN" and error.node.code == "DEADLINE_EXCEEDED"
                        if is_resend and looked:
                            raise
                        failed += 1
                        unknown = error.node
                    except (ConditionFailed, NotANumber) as error:
                        # The answer to a resend speaks of all tries, and that to a first try of this one alone.
                        if is_resend or is_open == 1:
                            raise
                        is_open -= 1
                        failed += 1
                        declined = error
                    except Refused as error:
                        if is_open == 1:
                            raise
                        is_open -= 1
                        failed += 1
                        last = error.node
                is_ending = is_ending or operation.is_over()
                if not is_ending and failed >= len(self.nodes):
                    failed = 0
                    is_ending = not await backoff.wait(operation.deadline)
                if is_ending and not tries:
                    if is_open > 0:
                        node_failure = unknown or last
                        assert node_failure is not None, "a try that may have taken effect has failed"
                        raise OutcomeUnknown(node_failure)
                    if declined is not None:
                        raise declined
                    assert last is not None, "a client has at least one node, and it failed"
                    raise NotApplied(last, operation.elapsed())
        finally:
            await _end(tries)

    async def _send(self, operation: Operation, node: Node, method: Method, request: Any) -> Any:
        """Sends a write to ``node``, once. Raises ``TryNext`` only if the write certainly did not happen."""
        if not node.is_connected():
            # Nothing is given to the library before there is a connection.
            try:
                await self.ask(node, HEALTH, api.HealthRequest(), operation.deadline)
            except (TryNext, QuorateError) as error:
                self.avoid(node)
                raise error if isinstance(error, TryNext) else TryNext(NodeFailure(node.address, str(error))) from None
            if not node.is_connected():
                self.avoid(node)
                raise TryNext(NodeFailure(node.address, "the connection is broken", "UNAVAILABLE"))
        metadata = self.metadata(node)
        call = node.call(method)(request, timeout=max(operation.left(), 0.001), metadata=metadata)
        loop = asyncio.get_running_loop()
        # This write can then only wait for its answer. Later writes need not wait behind it.
        timer = loop.call_later(operation.hedge_delay, self.avoid, node)
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            verdict = judge_write(node.failure(error))
            if isinstance(verdict, (ConditionFailed, NotANumber)):
                # The node answered. That it refuses is the write's own fault.
                node.record_answer()
            elif not isinstance(verdict, Refused):
                self.avoid(node)
            raise verdict from None
        finally:
            timer.cancel()
        node.record_answer()
        return answer

    async def live_node(self, operation: Operation) -> Node:
        """The node for a write or a stream: the next in turn if it answered recently, else the first in good health."""
        self.check_use()
        nodes = self.nodes_in_turn()
        if nodes[0].answered_recently():
            return nodes[0]
        # A single node has no substitute, so its health may take until the deadline.
        until = operation.deadline
        if len(nodes) > 1:
            until = min(until, time.monotonic() + HEALTH_HEDGE_DELAYS * operation.hedge_delay)
        degraded: list[Node] = []

        async def ask(node: Node) -> None:
            health = await self.ask(node, HEALTH, api.HealthRequest(), until)
            if health.status in (api.ONLINE, api.DEFAULT):
                return
            if health.status == api.DEGRADED:
                degraded.append(node)
            problem = _PROBLEMS.get(health.status, "the node does not serve")
            raise TryNext(NodeFailure(node.address, f"{problem}: {health.detail}".removesuffix(": ")))

        try:
            node, _ = await self._race(nodes, operation, ask)
            return node
        except (TryNext, QuorateError):
            # A degraded node is better than none: with a full disk of its own it still coordinates writes to others.
            if degraded:
                return degraded[0]
            raise

    async def _race(
        self, nodes: list[Node], operation: Operation, ask: Callable[[Node], Coroutine[Any, Any, T]]
    ) -> tuple[Node, T]:
        """Asks ``nodes`` in their order until one answers or all have failed.

        The next node is asked when the one before fails or the hedge delay has passed. Only for requests without an effect.
        """
        waiting = list(nodes)
        running: dict[asyncio.Task[T], Node] = {}
        asked: Node | None = None
        last: NodeFailure | None = None
        all_of_caller = True
        try:
            while True:
                has_next = bool(waiting)
                if has_next:
                    asked = waiting.pop(0)
                    running[asyncio.ensure_future(ask(asked))] = asked
                elif not running:
                    assert last is not None, "a client has at least one node, and all were asked"
                    raise Refused(last) if all_of_caller else TryNext(last)
                timeout = operation.hedge_delay if has_next else None
                done, _ = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    if asked is not None:
                        self.avoid(asked)
                    continue
                # An answer counts before a failure that came at the same moment.
                ended = sorted(done, key=lambda task: task.cancelled() or task.exception() is not None)
                for task in ended:
                    node = running.pop(task)
                    try:
                        answer = task.result()
                        node.record_answer()
                        return node, answer
                    except TryNext as failed:
                        self.avoid(node)
                        of_caller = is_of_caller(failed.failure)
                        all_of_caller = all_of_caller and of_caller
                        # What the caller can mend comes before the failure of another node.
                        if last is None or of_caller or not is_of_caller(last):
                            last = failed.failure
        finally:
            await _end(running)

    def nodes_in_turn(self) -> list[Node]:
        """All nodes: in turn, avoided ones last."""
        turn = self.turn % len(self.nodes)
        self.turn += 1
        return sorted(self.nodes[turn:] + self.nodes[:turn], key=lambda node: node.is_avoided)

    def avoid(self, node: Node) -> None:
        """Makes other operations prefer other nodes, until ``node`` says that it serves."""
        if not node.avoid() or self._is_closed:
            return
        probe = asyncio.ensure_future(self._probe(node))
        self._probes.add(probe)
        probe.add_done_callback(self._probes.discard)

    async def _probe(self, node: Node) -> None:
        while True:
            await asyncio.sleep(jittered(PROBE_INTERVAL))
            if not node.is_avoided:
                return
            try:
                health = await self.ask(node, HEALTH, api.HealthRequest(), time.monotonic() + PROBE_INTERVAL)
                if health.serves:
                    node.record_answer()
                    return
            except (TryNext, QuorateError):
                pass


_PROBLEMS = {
    api.STARTING: "the node is starting, or waits for the other nodes",
    api.DEGRADED: "the node is degraded",
    api.DRAINING: "the node is ending",
    api.REFUSED: "the node is refused by its peers",
}


async def _end(tasks: dict[asyncio.Task[Any], Any]) -> None:
    """Ends tasks whose results nobody wants any more."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.gather(*tasks, return_exceptions=True)


class Stream:
    """Answers of one streaming call, each within a time."""

    def __init__(self, pool: Pool, node: Node, method: Method, request: Any, timeout: float | None = None) -> None:
        self.node = node
        self._call = node.call(method, is_stream=True)(request, timeout=timeout, metadata=pool.metadata(node))

    async def _within(self, seconds: float, waiting: Awaitable[Any]) -> Any:
        task = asyncio.ensure_future(waiting)
        try:
            done, _ = await asyncio.wait((task,), timeout=seconds)
        except asyncio.CancelledError:
            self.cancel()
            await _end({task: None})
            raise
        if not done:
            self.cancel()
            await _end({task: None})
            raise TryNext(NodeFailure(self.node.address, "no answer before the deadline", "DEADLINE_EXCEEDED"))
        if task.cancelled():
            # Only the client itself cancels the call, as it closes.
            raise TryNext(NodeFailure(self.node.address, "the client is closed", "CANCELLED"))
        try:
            return task.result()
        except grpc.aio.AioRpcError as error:
            raise judge_read(self.node.failure(error)) from None

    async def opened(self, seconds: float) -> None:
        """Waits until the node has taken the call."""
        await self._within(seconds, self._call.initial_metadata())

    async def read(self, seconds: float) -> Any | None:
        """The next answer; ``None`` after the last."""
        answer = await self._within(seconds, self._call.read())
        if answer is grpc.aio.EOF:
            return None
        self.node.record_answer()
        return answer

    def cancel(self) -> None:
        self._call.cancel()
