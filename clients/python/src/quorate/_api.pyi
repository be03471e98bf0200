import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Consistency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LINEARIZABLE: _ClassVar[Consistency]
    ONE: _ClassVar[Consistency]

class TableState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TABLE_UNKNOWN: _ClassVar[TableState]
    TABLE_READY: _ClassVar[TableState]
    TABLE_DROPPING: _ClassVar[TableState]

class Health(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEFAULT: _ClassVar[Health]
    ONLINE: _ClassVar[Health]
    STARTING: _ClassVar[Health]
    DEGRADED: _ClassVar[Health]
    DRAINING: _ClassVar[Health]
    REFUSED: _ClassVar[Health]

class PeerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PEER_UNKNOWN: _ClassVar[PeerState]
    PEER_LINKED: _ClassVar[PeerState]
    PEER_UNREACHABLE: _ClassVar[PeerState]
    PEER_REFUSED: _ClassVar[PeerState]
    PEER_SELF: _ClassVar[PeerState]

class MemberFate(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FATE_UNKNOWN: _ClassVar[MemberFate]
    FATE_ADDED: _ClassVar[MemberFate]
    FATE_REMOVED: _ClassVar[MemberFate]
    FATE_REPLACED: _ClassVar[MemberFate]
    FATE_MOVED: _ClassVar[MemberFate]
    FATE_WEIGHED: _ClassVar[MemberFate]
LINEARIZABLE: Consistency
ONE: Consistency
TABLE_UNKNOWN: TableState
TABLE_READY: TableState
TABLE_DROPPING: TableState
DEFAULT: Health
ONLINE: Health
STARTING: Health
DEGRADED: Health
DRAINING: Health
REFUSED: Health
PEER_UNKNOWN: PeerState
PEER_LINKED: PeerState
PEER_UNREACHABLE: PeerState
PEER_REFUSED: PeerState
PEER_SELF: PeerState
FATE_UNKNOWN: MemberFate
FATE_ADDED: MemberFate
FATE_REMOVED: MemberFate
FATE_REPLACED: MemberFate
FATE_MOVED: MemberFate
FATE_WEIGHED: MemberFate

class Entry(_message.Message):
    __slots__ = ("key", "value", "binary")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    BINARY_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    binary: bytes
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ..., binary: _Optional[bytes] = ...) -> None: ...

class ClockValue(_message.Message):
    __slots__ = ("epoch", "clock", "node")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    clock: int
    node: str
    def __init__(self, epoch: _Optional[int] = ..., clock: _Optional[int] = ..., node: _Optional[str] = ...) -> None: ...

class ClockedEntry(_message.Message):
    __slots__ = ("entry", "clock", "tombstone")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONE_FIELD_NUMBER: _ClassVar[int]
    entry: Entry
    clock: ClockValue
    tombstone: bool
    def __init__(self, entry: _Optional[_Union[Entry, _Mapping]] = ..., clock: _Optional[_Union[ClockValue, _Mapping]] = ..., tombstone: _Optional[bool] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("key", "table", "consistency", "at_least")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    key: str
    table: str
    consistency: Consistency
    at_least: str
    def __init__(self, key: _Optional[str] = ..., table: _Optional[str] = ..., consistency: _Optional[_Union[Consistency, str]] = ..., at_least: _Optional[str] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("entry", "clock", "version", "ttl")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    entry: Entry
    clock: ClockValue
    version: str
    ttl: _duration_pb2.Duration
    def __init__(self, entry: _Optional[_Union[Entry, _Mapping]] = ..., clock: _Optional[_Union[ClockValue, _Mapping]] = ..., version: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class BatchGetRequest(_message.Message):
    __slots__ = ("keys", "table")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[str]
    table: str
    def __init__(self, keys: _Optional[_Iterable[str]] = ..., table: _Optional[str] = ...) -> None: ...

class BatchGetResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[BatchGetResult]
    def __init__(self, results: _Optional[_Iterable[_Union[BatchGetResult, _Mapping]]] = ...) -> None: ...

class BatchGetResult(_message.Message):
    __slots__ = ("key", "entry", "clock", "error", "version", "ttl")
    KEY_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    key: str
    entry: Entry
    clock: ClockValue
    error: BatchGetError
    version: str
    ttl: _duration_pb2.Duration
    def __init__(self, key: _Optional[str] = ..., entry: _Optional[_Union[Entry, _Mapping]] = ..., clock: _Optional[_Union[ClockValue, _Mapping]] = ..., error: _Optional[_Union[BatchGetError, _Mapping]] = ..., version: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class BatchGetError(_message.Message):
    __slots__ = ("code", "reason", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("table", "prefix", "start_after", "limit", "values")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    START_AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    table: str
    prefix: str
    start_after: str
    limit: int
    values: bool
    def __init__(self, table: _Optional[str] = ..., prefix: _Optional[str] = ..., start_after: _Optional[str] = ..., limit: _Optional[int] = ..., values: _Optional[bool] = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("entries", "next")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[ListedEntry]
    next: str
    def __init__(self, entries: _Optional[_Iterable[_Union[ListedEntry, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class ListedEntry(_message.Message):
    __slots__ = ("key", "version", "entry", "ttl")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    key: str
    version: str
    entry: Entry
    ttl: _duration_pb2.Duration
    def __init__(self, key: _Optional[str] = ..., version: _Optional[str] = ..., entry: _Optional[_Union[Entry, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class SetRequest(_message.Message):
    __slots__ = ("entry", "table", "condition", "ttl", "request_id", "resend")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESEND_FIELD_NUMBER: _ClassVar[int]
    entry: Entry
    table: str
    condition: Condition
    ttl: _duration_pb2.Duration
    request_id: bytes
    resend: bool
    def __init__(self, entry: _Optional[_Union[Entry, _Mapping]] = ..., table: _Optional[str] = ..., condition: _Optional[_Union[Condition, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., request_id: _Optional[bytes] = ..., resend: _Optional[bool] = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("if_version", "if_absent", "if_present")
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    IF_ABSENT_FIELD_NUMBER: _ClassVar[int]
    IF_PRESENT_FIELD_NUMBER: _ClassVar[int]
    if_version: str
    if_absent: bool
    if_present: bool
    def __init__(self, if_version: _Optional[str] = ..., if_absent: _Optional[bool] = ..., if_present: _Optional[bool] = ...) -> None: ...

class SetResponse(_message.Message):
    __slots__ = ("clock", "version")
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    clock: ClockValue
    version: str
    def __init__(self, clock: _Optional[_Union[ClockValue, _Mapping]] = ..., version: _Optional[str] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("key", "table", "condition", "request_id", "resend")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESEND_FIELD_NUMBER: _ClassVar[int]
    key: str
    table: str
    condition: Condition
    request_id: bytes
    resend: bool
    def __init__(self, key: _Optional[str] = ..., table: _Optional[str] = ..., condition: _Optional[_Union[Condition, _Mapping]] = ..., request_id: _Optional[bytes] = ..., resend: _Optional[bool] = ...) -> None: ...

class DeleteResponse(_message.Message):
    __slots__ = ("clock", "version")
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    clock: ClockValue
    version: str
    def __init__(self, clock: _Optional[_Union[ClockValue, _Mapping]] = ..., version: _Optional[str] = ...) -> None: ...

class BatchWriteRequest(_message.Message):
    __slots__ = ("entries", "table")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[BatchWriteEntry]
    table: str
    def __init__(self, entries: _Optional[_Iterable[_Union[BatchWriteEntry, _Mapping]]] = ..., table: _Optional[str] = ...) -> None: ...

class BatchWriteEntry(_message.Message):
    __slots__ = ("set", "delete")
    SET_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    set: SetRequest
    delete: DeleteRequest
    def __init__(self, set: _Optional[_Union[SetRequest, _Mapping]] = ..., delete: _Optional[_Union[DeleteRequest, _Mapping]] = ...) -> None: ...

class BatchWriteResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[BatchWriteResult]
    def __init__(self, results: _Optional[_Iterable[_Union[BatchWriteResult, _Mapping]]] = ...) -> None: ...

class BatchWriteResult(_message.Message):
    __slots__ = ("key", "clock", "version", "error")
    KEY_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    key: str
    clock: ClockValue
    version: str
    error: BatchWriteError
    def __init__(self, key: _Optional[str] = ..., clock: _Optional[_Union[ClockValue, _Mapping]] = ..., version: _Optional[str] = ..., error: _Optional[_Union[BatchWriteError, _Mapping]] = ...) -> None: ...

class BatchWriteError(_message.Message):
    __slots__ = ("code", "reason", "message", "version", "has_value")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HAS_VALUE_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    version: str
    has_value: bool
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., version: _Optional[str] = ..., has_value: _Optional[bool] = ...) -> None: ...

class AddRequest(_message.Message):
    __slots__ = ("key", "table", "delta", "since", "request_id", "resend", "ttl")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESEND_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    key: str
    table: str
    delta: int
    since: str
    request_id: bytes
    resend: bool
    ttl: _duration_pb2.Duration
    def __init__(self, key: _Optional[str] = ..., table: _Optional[str] = ..., delta: _Optional[int] = ..., since: _Optional[str] = ..., request_id: _Optional[bytes] = ..., resend: _Optional[bool] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class AddResponse(_message.Message):
    __slots__ = ("value", "version")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    value: int
    version: str
    def __init__(self, value: _Optional[int] = ..., version: _Optional[str] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("key", "prefix", "table", "cursor", "values", "with_list")
    KEY_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    WITH_LIST_FIELD_NUMBER: _ClassVar[int]
    key: str
    prefix: str
    table: str
    cursor: bytes
    values: bool
    with_list: bool
    def __init__(self, key: _Optional[str] = ..., prefix: _Optional[str] = ..., table: _Optional[str] = ..., cursor: _Optional[bytes] = ..., values: _Optional[bool] = ..., with_list: _Optional[bool] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("cursor", "ready", "put", "deleted", "reset", "heartbeat")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    cursor: bytes
    ready: WatchReady
    put: WatchPut
    deleted: WatchDeleted
    reset: WatchReset
    heartbeat: WatchHeartbeat
    def __init__(self, cursor: _Optional[bytes] = ..., ready: _Optional[_Union[WatchReady, _Mapping]] = ..., put: _Optional[_Union[WatchPut, _Mapping]] = ..., deleted: _Optional[_Union[WatchDeleted, _Mapping]] = ..., reset: _Optional[_Union[WatchReset, _Mapping]] = ..., heartbeat: _Optional[_Union[WatchHeartbeat, _Mapping]] = ...) -> None: ...

class WatchReady(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchPut(_message.Message):
    __slots__ = ("key", "version", "entry", "ttl")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    key: str
    version: str
    entry: Entry
    ttl: _duration_pb2.Duration
    def __init__(self, key: _Optional[str] = ..., version: _Optional[str] = ..., entry: _Optional[_Union[Entry, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WatchDeleted(_message.Message):
    __slots__ = ("key", "version")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    key: str
    version: str
    def __init__(self, key: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class WatchReset(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchHeartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Table(_message.Message):
    __slots__ = ("name", "id", "state", "settings")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: int
    state: TableState
    settings: TableSettings
    def __init__(self, name: _Optional[str] = ..., id: _Optional[int] = ..., state: _Optional[_Union[TableState, str]] = ..., settings: _Optional[_Union[TableSettings, _Mapping]] = ...) -> None: ...

class TableSettings(_message.Message):
    __slots__ = ("default_ttl", "value_bytes_max", "quota_bytes")
    DEFAULT_TTL_FIELD_NUMBER: _ClassVar[int]
    VALUE_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    QUOTA_BYTES_FIELD_NUMBER: _ClassVar[int]
    default_ttl: _duration_pb2.Duration
    value_bytes_max: int
    quota_bytes: int
    def __init__(self, default_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., value_bytes_max: _Optional[int] = ..., quota_bytes: _Optional[int] = ...) -> None: ...

class TableCreateRequest(_message.Message):
    __slots__ = ("name", "settings", "if_missing")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    IF_MISSING_FIELD_NUMBER: _ClassVar[int]
    name: str
    settings: TableSettings
    if_missing: bool
    def __init__(self, name: _Optional[str] = ..., settings: _Optional[_Union[TableSettings, _Mapping]] = ..., if_missing: _Optional[bool] = ...) -> None: ...

class TableCreateResponse(_message.Message):
    __slots__ = ("table", "created")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    table: Table
    created: bool
    def __init__(self, table: _Optional[_Union[Table, _Mapping]] = ..., created: _Optional[bool] = ...) -> None: ...

class TableGetRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class TableGetResponse(_message.Message):
    __slots__ = ("table",)
    TABLE_FIELD_NUMBER: _ClassVar[int]
    table: Table
    def __init__(self, table: _Optional[_Union[Table, _Mapping]] = ...) -> None: ...

class TableListRequest(_message.Message):
    __slots__ = ("start_after", "limit")
    START_AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    start_after: str
    limit: int
    def __init__(self, start_after: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class TableListResponse(_message.Message):
    __slots__ = ("tables", "next")
    TABLES_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    tables: _containers.RepeatedCompositeFieldContainer[Table]
    next: str
    def __init__(self, tables: _Optional[_Iterable[_Union[Table, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class TableDropRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class TableDropResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Token(_message.Message):
    __slots__ = ("id", "name", "certificate", "rights", "created")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    RIGHTS_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    certificate: str
    rights: _containers.RepeatedScalarFieldContainer[str]
    created: int
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., certificate: _Optional[str] = ..., rights: _Optional[_Iterable[str]] = ..., created: _Optional[int] = ...) -> None: ...

class TokenCreateRequest(_message.Message):
    __slots__ = ("token", "secret_sha256")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SECRET_SHA256_FIELD_NUMBER: _ClassVar[int]
    token: Token
    secret_sha256: bytes
    def __init__(self, token: _Optional[_Union[Token, _Mapping]] = ..., secret_sha256: _Optional[bytes] = ...) -> None: ...

class TokenCreateResponse(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: Token
    def __init__(self, token: _Optional[_Union[Token, _Mapping]] = ...) -> None: ...

class TokenListRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TokenListResponse(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[Token]
    def __init__(self, tokens: _Optional[_Iterable[_Union[Token, _Mapping]]] = ...) -> None: ...

class TokenRevokeRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class TokenRevokeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NodeGetResponse(_message.Message):
    __slots__ = ("clocked_entry",)
    CLOCKED_ENTRY_FIELD_NUMBER: _ClassVar[int]
    clocked_entry: ClockedEntry
    def __init__(self, clocked_entry: _Optional[_Union[ClockedEntry, _Mapping]] = ...) -> None: ...

class NodeSetRequest(_message.Message):
    __slots__ = ("clocked_entry", "entry")
    CLOCKED_ENTRY_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    clocked_entry: ClockedEntry
    entry: Entry
    def __init__(self, clocked_entry: _Optional[_Union[ClockedEntry, _Mapping]] = ..., entry: _Optional[_Union[Entry, _Mapping]] = ...) -> None: ...

class ClockGetRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ClockGetResponse(_message.Message):
    __slots__ = ("clock",)
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    clock: ClockValue
    def __init__(self, clock: _Optional[_Union[ClockValue, _Mapping]] = ...) -> None: ...

class ClockSetRequest(_message.Message):
    __slots__ = ("clock",)
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    clock: ClockValue
    def __init__(self, clock: _Optional[_Union[ClockValue, _Mapping]] = ...) -> None: ...

class ClockSetResponse(_message.Message):
    __slots__ = ("clock",)
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    clock: ClockValue
    def __init__(self, clock: _Optional[_Union[ClockValue, _Mapping]] = ...) -> None: ...

class HealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthResponse(_message.Message):
    __slots__ = ("node_id", "status", "uptime", "detail", "version", "clock", "keys_estimate", "disk_bytes", "peers", "serves", "repair", "data_bytes", "scrub", "damaged", "disk_free_bytes", "disk_total_bytes", "sync_p99_micros", "certificate_ends_seconds", "requests")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    UPTIME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    KEYS_ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    SERVES_FIELD_NUMBER: _ClassVar[int]
    REPAIR_FIELD_NUMBER: _ClassVar[int]
    DATA_BYTES_FIELD_NUMBER: _ClassVar[int]
    SCRUB_FIELD_NUMBER: _ClassVar[int]
    DAMAGED_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    SYNC_P99_MICROS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_ENDS_SECONDS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    status: Health
    uptime: _duration_pb2.Duration
    detail: str
    version: str
    clock: ClockValue
    keys_estimate: int
    disk_bytes: int
    peers: _containers.RepeatedCompositeFieldContainer[PeerHealth]
    serves: bool
    repair: RepairHealth
    data_bytes: int
    scrub: ScrubHealth
    damaged: bool
    disk_free_bytes: int
    disk_total_bytes: int
    sync_p99_micros: int
    certificate_ends_seconds: int
    requests: int
    def __init__(self, node_id: _Optional[str] = ..., status: _Optional[_Union[Health, str]] = ..., uptime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., detail: _Optional[str] = ..., version: _Optional[str] = ..., clock: _Optional[_Union[ClockValue, _Mapping]] = ..., keys_estimate: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., peers: _Optional[_Iterable[_Union[PeerHealth, _Mapping]]] = ..., serves: _Optional[bool] = ..., repair: _Optional[_Union[RepairHealth, _Mapping]] = ..., data_bytes: _Optional[int] = ..., scrub: _Optional[_Union[ScrubHealth, _Mapping]] = ..., damaged: _Optional[bool] = ..., disk_free_bytes: _Optional[int] = ..., disk_total_bytes: _Optional[int] = ..., sync_p99_micros: _Optional[int] = ..., certificate_ends_seconds: _Optional[int] = ..., requests: _Optional[int] = ...) -> None: ...

class ScrubHealth(_message.Message):
    __slots__ = ("running", "bytes", "passes", "clean_since")
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    PASSES_FIELD_NUMBER: _ClassVar[int]
    CLEAN_SINCE_FIELD_NUMBER: _ClassVar[int]
    running: bool
    bytes: int
    passes: int
    clean_since: _duration_pb2.Duration
    def __init__(self, running: _Optional[bool] = ..., bytes: _Optional[int] = ..., passes: _Optional[int] = ..., clean_since: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class RepairRequest(_message.Message):
    __slots__ = ("scrub",)
    SCRUB_FIELD_NUMBER: _ClassVar[int]
    scrub: bool
    def __init__(self, scrub: _Optional[bool] = ...) -> None: ...

class RepairResponse(_message.Message):
    __slots__ = ("ordered", "scrub")
    ORDERED_FIELD_NUMBER: _ClassVar[int]
    SCRUB_FIELD_NUMBER: _ClassVar[int]
    ordered: bool
    scrub: int
    def __init__(self, ordered: _Optional[bool] = ..., scrub: _Optional[int] = ...) -> None: ...

class RepairHealth(_message.Message):
    __slots__ = ("share_counted", "records", "tombstones", "repaired", "tombstone_slots", "tombstones_forgotten", "tombstones_wait_for")
    SHARE_COUNTED_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONES_FIELD_NUMBER: _ClassVar[int]
    REPAIRED_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONE_SLOTS_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONES_FORGOTTEN_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONES_WAIT_FOR_FIELD_NUMBER: _ClassVar[int]
    share_counted: float
    records: int
    tombstones: int
    repaired: int
    tombstone_slots: int
    tombstones_forgotten: int
    tombstones_wait_for: _containers.RepeatedCompositeFieldContainer[TombstonesWait]
    def __init__(self, share_counted: _Optional[float] = ..., records: _Optional[int] = ..., tombstones: _Optional[int] = ..., repaired: _Optional[int] = ..., tombstone_slots: _Optional[int] = ..., tombstones_forgotten: _Optional[int] = ..., tombstones_wait_for: _Optional[_Iterable[_Union[TombstonesWait, _Mapping]]] = ...) -> None: ...

class TombstonesWait(_message.Message):
    __slots__ = ("node_id", "slots", "slot")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    slots: int
    slot: int
    def __init__(self, node_id: _Optional[str] = ..., slots: _Optional[int] = ..., slot: _Optional[int] = ...) -> None: ...

class PeerHealth(_message.Message):
    __slots__ = ("node_id", "state", "detail", "repair")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    REPAIR_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    state: PeerState
    detail: str
    repair: PairHealth
    def __init__(self, node_id: _Optional[str] = ..., state: _Optional[_Union[PeerState, str]] = ..., detail: _Optional[str] = ..., repair: _Optional[_Union[PairHealth, _Mapping]] = ...) -> None: ...

class PairHealth(_message.Message):
    __slots__ = ("comparing", "behind", "equal_since")
    COMPARING_FIELD_NUMBER: _ClassVar[int]
    BEHIND_FIELD_NUMBER: _ClassVar[int]
    EQUAL_SINCE_FIELD_NUMBER: _ClassVar[int]
    comparing: bool
    behind: int
    equal_since: _duration_pb2.Duration
    def __init__(self, comparing: _Optional[bool] = ..., behind: _Optional[int] = ..., equal_since: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class InfoRequest(_message.Message):
    __slots__ = ("prefix", "limit")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    limit: int
    def __init__(self, prefix: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class InfoResponse(_message.Message):
    __slots__ = ("node_id", "uptime", "keys")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    UPTIME_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    uptime: _duration_pb2.Duration
    keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node_id: _Optional[str] = ..., uptime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., keys: _Optional[_Iterable[str]] = ...) -> None: ...

class ClusterInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ClusterInfoResponse(_message.Message):
    __slots__ = ("uptime", "replication_level", "storage_nodes", "seed", "node_id", "epoch_floor", "cluster")
    UPTIME_FIELD_NUMBER: _ClassVar[int]
    REPLICATION_LEVEL_FIELD_NUMBER: _ClassVar[int]
    STORAGE_NODES_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FLOOR_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    uptime: _duration_pb2.Duration
    replication_level: int
    storage_nodes: _containers.RepeatedCompositeFieldContainer[StorageNode]
    seed: int
    node_id: str
    epoch_floor: int
    cluster: str
    def __init__(self, uptime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., replication_level: _Optional[int] = ..., storage_nodes: _Optional[_Iterable[_Union[StorageNode, _Mapping]]] = ..., seed: _Optional[int] = ..., node_id: _Optional[str] = ..., epoch_floor: _Optional[int] = ..., cluster: _Optional[str] = ...) -> None: ...

class StorageNode(_message.Message):
    __slots__ = ("id", "address", "state", "slots", "last_seen", "detail", "weight_hundredths", "zone")
    ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_HUNDREDTHS_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    id: str
    address: str
    state: PeerState
    slots: int
    last_seen: _duration_pb2.Duration
    detail: str
    weight_hundredths: int
    zone: str
    def __init__(self, id: _Optional[str] = ..., address: _Optional[str] = ..., state: _Optional[_Union[PeerState, str]] = ..., slots: _Optional[int] = ..., last_seen: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., detail: _Optional[str] = ..., weight_hundredths: _Optional[int] = ..., zone: _Optional[str] = ...) -> None: ...

class MembersGetRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MembersGetResponse(_message.Message):
    __slots__ = ("number", "changing", "replica_count", "new_replica_count", "members", "waiting", "failures_tolerated", "failures_tolerated_after", "seed", "node_id", "cluster_name", "epoch_floor")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CHANGING_FIELD_NUMBER: _ClassVar[int]
    REPLICA_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEW_REPLICA_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    FAILURES_TOLERATED_FIELD_NUMBER: _ClassVar[int]
    FAILURES_TOLERATED_AFTER_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_NAME_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FLOOR_FIELD_NUMBER: _ClassVar[int]
    number: int
    changing: bool
    replica_count: int
    new_replica_count: int
    members: _containers.RepeatedCompositeFieldContainer[ClusterMember]
    waiting: _containers.RepeatedCompositeFieldContainer[WaitingMember]
    failures_tolerated: int
    failures_tolerated_after: int
    seed: int
    node_id: str
    cluster_name: str
    epoch_floor: int
    def __init__(self, number: _Optional[int] = ..., changing: _Optional[bool] = ..., replica_count: _Optional[int] = ..., new_replica_count: _Optional[int] = ..., members: _Optional[_Iterable[_Union[ClusterMember, _Mapping]]] = ..., waiting: _Optional[_Iterable[_Union[WaitingMember, _Mapping]]] = ..., failures_tolerated: _Optional[int] = ..., failures_tolerated_after: _Optional[int] = ..., seed: _Optional[int] = ..., node_id: _Optional[str] = ..., cluster_name: _Optional[str] = ..., epoch_floor: _Optional[int] = ...) -> None: ...

class ClusterMember(_message.Message):
    __slots__ = ("id", "address", "identity", "in_old", "in_new", "reached", "slots", "disk_bytes", "progress", "weight_hundredths", "zone", "old_weight_hundredths", "old_zone")
    ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    IN_OLD_FIELD_NUMBER: _ClassVar[int]
    IN_NEW_FIELD_NUMBER: _ClassVar[int]
    REACHED_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_HUNDREDTHS_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    OLD_WEIGHT_HUNDREDTHS_FIELD_NUMBER: _ClassVar[int]
    OLD_ZONE_FIELD_NUMBER: _ClassVar[int]
    id: str
    address: str
    identity: str
    in_old: bool
    in_new: bool
    reached: bool
    slots: int
    disk_bytes: int
    progress: MemberProgress
    weight_hundredths: int
    zone: str
    old_weight_hundredths: int
    old_zone: str
    def __init__(self, id: _Optional[str] = ..., address: _Optional[str] = ..., identity: _Optional[str] = ..., in_old: _Optional[bool] = ..., in_new: _Optional[bool] = ..., reached: _Optional[bool] = ..., slots: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., progress: _Optional[_Union[MemberProgress, _Mapping]] = ..., weight_hundredths: _Optional[int] = ..., zone: _Optional[str] = ..., old_weight_hundredths: _Optional[int] = ..., old_zone: _Optional[str] = ...) -> None: ...

class MemberProgress(_message.Message):
    __slots__ = ("complete", "slots", "slots_done", "keys", "bytes")
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_DONE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    complete: bool
    slots: int
    slots_done: int
    keys: int
    bytes: int
    def __init__(self, complete: _Optional[bool] = ..., slots: _Optional[int] = ..., slots_done: _Optional[int] = ..., keys: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class WaitingMember(_message.Message):
    __slots__ = ("id", "address", "identity")
    ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    id: str
    address: str
    identity: str
    def __init__(self, id: _Optional[str] = ..., address: _Optional[str] = ..., identity: _Optional[str] = ...) -> None: ...

class MembersWish(_message.Message):
    __slots__ = ("members", "replica_count", "expected", "force")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    REPLICA_COUNT_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[WishedMember]
    replica_count: int
    expected: int
    force: bool
    def __init__(self, members: _Optional[_Iterable[_Union[WishedMember, _Mapping]]] = ..., replica_count: _Optional[int] = ..., expected: _Optional[int] = ..., force: _Optional[bool] = ...) -> None: ...

class WishedMember(_message.Message):
    __slots__ = ("id", "address", "identity", "weight_hundredths", "zone")
    ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_HUNDREDTHS_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    id: str
    address: str
    identity: str
    weight_hundredths: int
    zone: str
    def __init__(self, id: _Optional[str] = ..., address: _Optional[str] = ..., identity: _Optional[str] = ..., weight_hundredths: _Optional[int] = ..., zone: _Optional[str] = ...) -> None: ...

class MembersPlanResponse(_message.Message):
    __slots__ = ("number", "differences", "moves", "failures_tolerated", "failures_tolerated_meanwhile", "failures_tolerated_after", "replica_count", "new_replica_count", "slots_without_majority", "bytes_known")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    FAILURES_TOLERATED_FIELD_NUMBER: _ClassVar[int]
    FAILURES_TOLERATED_MEANWHILE_FIELD_NUMBER: _ClassVar[int]
    FAILURES_TOLERATED_AFTER_FIELD_NUMBER: _ClassVar[int]
    REPLICA_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEW_REPLICA_COUNT_FIELD_NUMBER: _ClassVar[int]
    SLOTS_WITHOUT_MAJORITY_FIELD_NUMBER: _ClassVar[int]
    BYTES_KNOWN_FIELD_NUMBER: _ClassVar[int]
    number: int
    differences: _containers.RepeatedCompositeFieldContainer[MemberDifference]
    moves: _containers.RepeatedCompositeFieldContainer[MemberMove]
    failures_tolerated: int
    failures_tolerated_meanwhile: int
    failures_tolerated_after: int
    replica_count: int
    new_replica_count: int
    slots_without_majority: int
    bytes_known: bool
    def __init__(self, number: _Optional[int] = ..., differences: _Optional[_Iterable[_Union[MemberDifference, _Mapping]]] = ..., moves: _Optional[_Iterable[_Union[MemberMove, _Mapping]]] = ..., failures_tolerated: _Optional[int] = ..., failures_tolerated_meanwhile: _Optional[int] = ..., failures_tolerated_after: _Optional[int] = ..., replica_count: _Optional[int] = ..., new_replica_count: _Optional[int] = ..., slots_without_majority: _Optional[int] = ..., bytes_known: _Optional[bool] = ...) -> None: ...

class MemberDifference(_message.Message):
    __slots__ = ("id", "fate", "address", "reached", "weight_hundredths", "zone", "old_weight_hundredths", "old_zone")
    ID_FIELD_NUMBER: _ClassVar[int]
    FATE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REACHED_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_HUNDREDTHS_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    OLD_WEIGHT_HUNDREDTHS_FIELD_NUMBER: _ClassVar[int]
    OLD_ZONE_FIELD_NUMBER: _ClassVar[int]
    id: str
    fate: MemberFate
    address: str
    reached: bool
    weight_hundredths: int
    zone: str
    old_weight_hundredths: int
    old_zone: str
    def __init__(self, id: _Optional[str] = ..., fate: _Optional[_Union[MemberFate, str]] = ..., address: _Optional[str] = ..., reached: _Optional[bool] = ..., weight_hundredths: _Optional[int] = ..., zone: _Optional[str] = ..., old_weight_hundredths: _Optional[int] = ..., old_zone: _Optional[str] = ...) -> None: ...

class MemberMove(_message.Message):
    __slots__ = ("to", "slots", "bytes")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    to: str
    slots: int
    bytes: int
    def __init__(self, to: _Optional[str] = ..., slots: _Optional[int] = ..., bytes: _Optional[int] = ..., **kwargs) -> None: ...

class MembersChangeResponse(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class MembersAbortRequest(_message.Message):
    __slots__ = ("expected",)
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    expected: int
    def __init__(self, expected: _Optional[int] = ...) -> None: ...

class RpcStatus(_message.Message):
    __slots__ = ("code", "message", "details")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    details: _containers.RepeatedCompositeFieldContainer[RpcAny]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., details: _Optional[_Iterable[_Union[RpcAny, _Mapping]]] = ...) -> None: ...

class RpcAny(_message.Message):
    __slots__ = ("type_url", "value")
    TYPE_URL_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    type_url: str
    value: bytes
    def __init__(self, type_url: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class RpcErrorInfo(_message.Message):
    __slots__ = ("reason", "domain", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REASON_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    reason: str
    domain: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, reason: _Optional[str] = ..., domain: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...
