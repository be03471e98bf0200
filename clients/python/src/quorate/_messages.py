"""From what users give to requests, and from answers to what users get.

Input is checked before anything is sent. Answers came over the network, so each of them is checked before it is believed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from google.protobuf import duration_pb2

from . import _api as api
from ._errors import (
    CODES,
    ConditionFailed,
    InvalidInput,
    NodeFailure,
    NoSuchTable,
    NotANumber,
    OutcomeUnknown,
    QuorateError,
    Refused,
    TableExists,
    TryNext,
)
from ._types import (
    Acknowledged,
    Added,
    Changed,
    ClusterInfo,
    Delete,
    Deleted,
    Event,
    KeyState,
    Listed,
    NodeHealth,
    NodeInfo,
    Ready,
    Reset,
    Seconds,
    Set,
    Stamp,
    TableCreated,
    TableInfo,
    Value,
    Versioned,
)

KEY_BYTES_MAX = 4096
VALUE_BYTES_MAX = 60 << 20
TABLE_NAME_BYTES_MAX = 128
BATCH_KEYS_MAX = 1000
TTL_MAX = 3650 * 24 * 3600.0
DEFAULT_TABLE = "default"


class BadAnswer(Exception):
    """A node's answer makes no sense."""


# Input


def utf8(what: str, text: str) -> bytes:
    if not isinstance(text, str):
        raise InvalidInput(f"the {what} is {type(text).__name__}: give it as str")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"the {what} is not valid UTF-8") from None


def check_key(key: str) -> str:
    size = len(utf8("key", key))
    if size == 0:
        raise InvalidInput(f"the key is empty: give it 1 to {KEY_BYTES_MAX} bytes of UTF-8")
    if size > KEY_BYTES_MAX:
        raise InvalidInput(f"the key has {size} bytes: at most {KEY_BYTES_MAX} are accepted")
    return key


def check_prefix(what: str, text: str) -> str:
    size = len(utf8(what, text))
    if size > KEY_BYTES_MAX:
        raise InvalidInput(f"the {what} has {size} bytes: at most {KEY_BYTES_MAX} are accepted")
    return text


def check_version(version: str) -> str:
    if not utf8("version", version):
        raise InvalidInput("the version is empty: give one that an answer about the key had")
    return version


def check_table(name: str) -> str:
    """The name of a table in requests: empty for the default table."""
    size = len(utf8("name of the table", name))
    if size == 0:
        raise InvalidInput(f"the name of the table is empty: give it 1 to {TABLE_NAME_BYTES_MAX} bytes of UTF-8")
    if size > TABLE_NAME_BYTES_MAX:
        raise InvalidInput(f"the name of the table has {size} bytes: at most {TABLE_NAME_BYTES_MAX} are accepted")
    for character in name:
        is_control = ord(character) < 32 or 127 <= ord(character) < 160
        if character.isspace() or is_control or character == "/":
            raise InvalidInput(
                f"the name of the table holds {character!r}: spaces, control characters and slashes are not accepted"
            )
    return "" if name == DEFAULT_TABLE else name


def check_created_table(name: str) -> str:
    if not check_table(name):
        raise InvalidInput(
            f"table {DEFAULT_TABLE} always exists: it cannot be created or dropped, and has no settings"
        )
    return name


def seconds_of(time: Seconds) -> float:
    if isinstance(time, timedelta):
        return time.total_seconds()
    if isinstance(time, bool) or not isinstance(time, (int, float)):
        raise InvalidInput(f"a time is {type(time).__name__}: give seconds as a number, or a timedelta")
    return float(time)


def duration_of(ttl: Seconds | None) -> duration_pb2.Duration | None:
    if ttl is None:
        return None
    seconds = seconds_of(ttl)
    # 1 ns is taken and then refused by the node, as is anything else below 1 ms.
    if not 0 < seconds <= TTL_MAX:
        raise InvalidInput(
            f"a time to live of {seconds} s is not accepted: 1 ms to 3,650 days are; without one a value never expires"
        )
    nanos = round(seconds * 1e9)
    return duration_pb2.Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)


def _set_duration(message: Any, name: str, ttl: Seconds | None) -> None:
    duration = duration_of(ttl)
    if duration is not None:
        getattr(message, name).seconds = duration.seconds
        getattr(message, name).nanos = duration.nanos


def entry_of(key: str, value: Value) -> api.Entry:
    if isinstance(value, str):
        size = len(utf8("value", value))
    elif isinstance(value, (bytes, bytearray, memoryview)):
        value = bytes(value)
        size = len(value)
    else:
        raise InvalidInput(f"the value is {type(value).__name__}: give text as str, anything else as bytes")
    if size > VALUE_BYTES_MAX:
        raise InvalidInput(f"the value has {size} bytes: at most {VALUE_BYTES_MAX} are accepted")
    return api.Entry(key=key, value=value) if isinstance(value, str) else api.Entry(key=key, binary=value)


def _condition(request: Any, if_version: str | None, if_absent: bool, if_present: bool) -> bool:
    """Puts the condition into the request, and a name of the request. Returns whether it may be sent again."""
    if (if_version is not None) + bool(if_absent) + bool(if_present) > 1:
        raise InvalidInput("more than one condition is given: give if_version, if_absent or if_present")
    if if_version is not None:
        request.condition.if_version = check_version(if_version)
    elif if_absent:
        request.condition.if_absent = True
    elif if_present:
        request.condition.if_present = True
    else:
        return False
    request.request_id = os.urandom(16)
    return if_version is not None


def set_request(table: str, write: Set) -> tuple[api.SetRequest, bool]:
    key = check_key(write.key)
    request = api.SetRequest(entry=entry_of(key, write.value), table=table)
    may_be_resent = _condition(request, write.if_version, write.if_absent, write.if_present)
    _set_duration(request, "ttl", write.ttl)
    return request, may_be_resent


def delete_request(table: str, write: Delete) -> tuple[api.DeleteRequest, bool]:
    request = api.DeleteRequest(key=check_key(write.key), table=table)
    return request, _condition(request, write.if_version, False, write.if_present)


def add_request(
    table: str, key: str, delta: int, since: str | None, ttl: Seconds | None
) -> tuple[api.AddRequest, bool]:
    if not isinstance(delta, int) or not -(2**63) <= delta < 2**63:
        raise InvalidInput(f"cannot add {delta!r}: whole numbers of 64 bits are accepted")
    request = api.AddRequest(key=check_key(key), table=table, delta=delta, request_id=os.urandom(16))
    if since is not None:
        request.since = check_version(since)
    _set_duration(request, "ttl", ttl)
    return request, since is not None


def create_request(
    name: str,
    default_ttl: Seconds | None,
    value_bytes_max: int | None,
    quota_bytes: int | None,
    if_missing: bool,
) -> api.TableCreateRequest:
    if value_bytes_max is not None and not 1 <= value_bytes_max <= VALUE_BYTES_MAX:
        raise InvalidInput(
            f"a greatest value of {value_bytes_max} bytes is not accepted: 1 to {VALUE_BYTES_MAX} are"
        )
    if quota_bytes is not None and quota_bytes < 1:
        raise InvalidInput(
            f"a quota of {quota_bytes} bytes is not accepted: give at least 1, or none for no bound"
        )
    request = api.TableCreateRequest(name=check_created_table(name), if_missing=if_missing)
    if default_ttl is not None:
        _set_duration(request.settings, "default_ttl", default_ttl)
    if value_bytes_max is not None:
        request.settings.value_bytes_max = value_bytes_max
    if quota_bytes is not None:
        request.settings.quota_bytes = quota_bytes
    return request


# Answers


def _ttl(message: Any) -> float | None:
    if not message.HasField("ttl"):
        return None
    seconds: float = message.ttl.seconds + message.ttl.nanos / 1e9
    if seconds < 0:
        raise BadAnswer("a negative time to live")
    return seconds


def _stamp(message: Any) -> Stamp | None:
    if not message.HasField("clock"):
        return None
    clock = message.clock
    if not clock.node:
        raise BadAnswer("a stamp without a node")
    return Stamp(clock.epoch, clock.clock, clock.node)


def _value(key: str, entry: api.Entry) -> Value:
    if entry.key != key:
        raise BadAnswer(f"asked for key {key!r}, got {entry.key!r}")
    return entry.binary if entry.WhichOneof("content") == "binary" else entry.value


def key_state(key: str, answer: Any) -> KeyState:
    """The state of a key, from a GetResponse or a BatchGetResult."""
    if not answer.version:
        raise BadAnswer("no version")
    stamp = _stamp(answer)
    if not answer.HasField("entry"):
        return KeyState(None, answer.version, stamp)
    found = Versioned(_value(key, answer.entry), answer.version, _ttl(answer), stamp)
    return KeyState(found, answer.version, stamp)


def batch_found(address: str, keys: list[str], answer: api.BatchGetResponse) -> list[Versioned | NodeFailure | None]:
    if len(answer.results) != len(keys):
        raise BadAnswer(f"{len(answer.results)} results for {len(keys)} keys")
    found: list[Versioned | NodeFailure | None] = []
    for key, result in zip(keys, answer.results):
        if result.HasField("error"):
            error = result.error
            found.append(NodeFailure(address, error.message, code_name(error.code), error.reason or None))
        else:
            found.append(key_state(key, result).found)
    return found


def acknowledged(address: str, answer: Any) -> Acknowledged:
    """An acknowledged write. An answer that cannot be read has an unknown outcome."""
    try:
        if not answer.version:
            raise BadAnswer("OK without a version")
        return Acknowledged(answer.version, _stamp(answer))
    except BadAnswer as problem:
        raise OutcomeUnknown(NodeFailure(address, f"bad answer: {problem}")) from None


def added(address: str, answer: api.AddResponse) -> Added:
    if not answer.version:
        raise OutcomeUnknown(NodeFailure(address, "bad answer: OK without a version"))
    return Added(answer.value, answer.version)


def listed(entry: api.ListedEntry) -> Listed:
    value = _value(entry.key, entry.entry) if entry.HasField("entry") else None
    return Listed(entry.key, entry.version, value, _ttl(entry))


def event_of(answer: api.WatchResponse) -> Event | None:
    """The event in a node's message; ``None`` if it only says that the node is there."""
    arm = answer.WhichOneof("event")
    if arm == "ready":
        return Ready()
    if arm == "put":
        put = answer.put
        value = _value(put.key, put.entry) if put.HasField("entry") else None
        return Changed(put.key, put.version, value, _ttl(put))
    if arm == "deleted":
        return Deleted(answer.deleted.key, answer.deleted.version)
    if arm == "reset":
        return Reset()
    return None


def table_of(table: api.Table) -> TableInfo:
    if not table.name:
        raise BadAnswer("no table")
    settings = table.settings
    default_ttl = None
    if settings.HasField("default_ttl"):
        default_ttl = settings.default_ttl.seconds + settings.default_ttl.nanos / 1e9
        if default_ttl < 0:
            raise BadAnswer("a negative time to live")
    return TableInfo(
        name=table.name,
        id=table.id,
        is_dropping=table.state == api.TABLE_DROPPING,
        default_ttl=default_ttl,
        value_bytes_max=settings.value_bytes_max or None,
        quota_bytes=settings.quota_bytes or None,
    )


def table_created(answer: api.TableCreateResponse) -> TableCreated:
    return TableCreated(table_of(answer.table), answer.created)


_PEER_STATES = {0: "UNKNOWN", 1: "LINKED", 2: "UNREACHABLE", 3: "REFUSED", 4: "SELF"}
_HEALTH_STATES = {0: "UNKNOWN", 1: "ONLINE", 2: "STARTING", 3: "DEGRADED", 4: "DRAINING", 5: "REFUSED"}


def cluster_info(answer: api.ClusterInfoResponse) -> ClusterInfo:
    nodes = (
        NodeInfo(node.id, node.address, _PEER_STATES.get(node.state, "UNKNOWN"), node.slots, node.detail)
        for node in answer.storage_nodes
    )
    return ClusterInfo(answer.node_id, answer.seed, answer.replication_level, tuple(nodes))


def node_health(answer: api.HealthResponse) -> NodeHealth:
    status = _HEALTH_STATES.get(answer.status, "UNKNOWN")
    return NodeHealth(answer.node_id, status, answer.serves, answer.detail, answer.version)


# Failures

_REASONS = frozenset(
    "NOT_APPLIED OUTCOME_UNKNOWN NO_QUORUM NOT_READY STORE_FAILED DAMAGED INVALID_ARGUMENT NOT_REPLICA "
    "STAMP_NOT_GREATER OPERATOR_WRITES_OFF CLOCK_RAISE_TOO_FAR CONDITION_FAILED NOT_A_NUMBER NO_SUCH_TABLE "
    "TABLE_EXISTS UNAUTHENTICATED PERMISSION_DENIED".split()
)
# Each reason is named, so that a reason added later is not taken for a refusal by accident.
_REFUSALS = frozenset(
    "INVALID_ARGUMENT NOT_REPLICA STAMP_NOT_GREATER OPERATOR_WRITES_OFF CLOCK_RAISE_TOO_FAR PERMISSION_DENIED".split()
)
# Without Quorate's own reason, only codes count that neither a broken connection nor a proxy produces.
_REFUSAL_CODES = frozenset(
    "INVALID_ARGUMENT FAILED_PRECONDITION UNIMPLEMENTED PERMISSION_DENIED UNAUTHENTICATED".split()
)


def code_name(code: int) -> str:
    return CODES[code] if 0 <= code < len(CODES) else "UNKNOWN"


def failure_of(address: str, code: str, message: str, details: bytes | None) -> NodeFailure:
    """The failure of a call. ``details`` are the status details, which have the node's reason."""
    for info in _error_infos(details):
        if info.domain == "quorate" and info.reason in _REASONS:
            return NodeFailure(address, message, code, info.reason, dict(info.metadata))
    return NodeFailure(address, _explained(message), code)


TLS_ALONE = "this node takes TLS alone: give tls, with the CA of the cluster"


def _explained(message: str) -> str:
    """What the library says of a connection that was not made, and what to do."""
    if "this node takes TLS alone" in message:
        return TLS_ALONE
    for said, hint in (
        ("WRONG_VERSION_NUMBER", "the node speaks no TLS: leave tls out"),
        ("TSI_DATA_CORRUPTED", "the node may want a certificate of the client: give certificate and key in tls"),
    ):
        if said in message:
            return f"{message}: {hint}"
    return message


def _error_infos(details: bytes | None) -> Iterable[api.RpcErrorInfo]:
    try:
        for detail in api.RpcStatus.FromString(details or b"").details:
            if detail.type_url.endswith("/google.rpc.ErrorInfo"):
                yield api.RpcErrorInfo.FromString(detail.value)
    except Exception:  # What cannot be read says nothing.
        return


def judge_read(failure: NodeFailure) -> QuorateError | TryNext:
    """Judges a failed read. It has no effect, so another node may be tried unless the request itself was refused."""
    return _of_table(failure) or (Refused(failure) if _is_refusal(failure) else TryNext(failure))


def judge_write(failure: NodeFailure) -> QuorateError | TryNext:
    """Judges what was said of a write that failed. ``TryNext`` only if it certainly did not happen."""
    if is_of_caller(failure):
        return TryNext(failure)
    if failure.reason in ("NOT_APPLIED", "NOT_READY"):
        # With any other code the request itself is at fault, and fails alike when it is sent again.
        is_passing = failure.code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
        return TryNext(failure) if is_passing else Refused(failure)
    table = _of_table(failure)
    if table is not None:
        return table
    version = failure.metadata.get("version")
    if version is not None and failure.reason == "CONDITION_FAILED":
        return ConditionFailed(version, failure.metadata.get("has_value") == "true")
    if version is not None and failure.reason == "NOT_A_NUMBER":
        return NotANumber(version)
    return Refused(failure) if _is_refusal(failure) else OutcomeUnknown(failure)


def is_of_caller(failure: NodeFailure) -> bool:
    """Whether it is the caller who can mend it, once all nodes say so.

    The node does not know who calls, or takes TLS alone. It has not looked at the request, and another node may serve it.
    """
    return failure.reason == "UNAUTHENTICATED" or (failure.reason is None and failure.message == TLS_ALONE)


def _of_table(failure: NodeFailure) -> QuorateError | None:
    if failure.reason == "NO_SUCH_TABLE":
        return NoSuchTable(failure)
    if failure.reason == "TABLE_EXISTS":
        return TableExists(failure)
    return None


def _is_refusal(failure: NodeFailure) -> bool:
    return failure.reason in _REFUSALS if failure.reason else failure.code in _REFUSAL_CODES
