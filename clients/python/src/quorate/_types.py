"""What the clients take and return."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Union

from ._errors import InvalidInput

Value = Union[str, bytes]
"""A value: text is written as text, and bytes as bytes. It is read in the form in which it was written."""

Seconds = Union[float, timedelta]
"""A time, in seconds or as a ``timedelta``."""


@dataclass(frozen=True, order=True)
class Stamp:
    """The position of a write in the one order of all writes of a key. No part of it is a time of day."""

    epoch: int
    clock: int
    node: str

    def __str__(self) -> str:
        return f"{self.epoch}.{self.clock}@{self.node}"


@dataclass(frozen=True)
class Versioned:
    """The value of a key, and its version."""

    value: Value
    """The value, in the form in which it was written."""
    version: str
    """The version, for conditions: no other state of the key has it."""
    ttl: float | None = None
    """The rest of the time to live in seconds; ``None`` for a value that never expires."""
    stamp: Stamp | None = None
    """The position among all writes without a condition; that of the one it builds on for a conditional write."""


@dataclass(frozen=True)
class KeyState:
    """The state of a key, which may have a value or none."""

    found: Versioned | None
    """The value; ``None`` if the key has none."""
    version: str
    """The version, of a value and of an absence alike."""
    stamp: Stamp | None = None
    """The stamp of the latest write or deletion without a condition."""


@dataclass(frozen=True)
class Acknowledged:
    """A write that is done."""

    version: str
    """The version that the write made."""
    stamp: Stamp | None = None
    """The stamp of a write without a condition; that of the one it builds on for a conditional write."""


@dataclass(frozen=True)
class Added:
    """An addition that is done."""

    value: int
    """The sum."""
    version: str
    """The version that the addition made."""


@dataclass(frozen=True)
class Listed:
    """A key of a list. It has a value."""

    key: str
    version: str
    """The version of its value, for conditions."""
    value: Value | None = None
    """The value, if the list was asked for values."""
    ttl: float | None = None
    """The rest of the time to live in seconds; ``None`` for a value that never expires."""


@dataclass(frozen=True)
class Ready:
    """Every write that is called from now on is told.

    With ``with_list`` all that is there was told too, and nothing is missed. Without, a write that was called before and
    is acknowledged later may not be told.
    """


@dataclass(frozen=True)
class Changed:
    """A key has a new value."""

    key: str
    version: str
    """The version of the value."""
    value: Value | None = None
    """The value, if the watch was asked for values."""
    ttl: float | None = None
    """The time to live in seconds; ``None`` for a value that never expires."""


@dataclass(frozen=True)
class Deleted:
    """A key has no value any more."""

    key: str
    version: str
    """The version of the absence."""


@dataclass(frozen=True)
class Reset:
    """Changes may have been missed: forget what was told, until ``Ready`` comes again.

    With ``with_list``, what is there is told again before that.
    """


Event = Union[Ready, Changed, Deleted, Reset]
"""What a watch tells."""


@dataclass(frozen=True)
class Set:
    """A write of a batch. Of the conditions at most one may be given."""

    key: str
    value: Value
    if_version: str | None = None
    if_absent: bool = False
    if_present: bool = False
    ttl: Seconds | None = None
    table: str | None = None
    """The table of the key; ``None`` for the one of the client."""


@dataclass(frozen=True)
class Delete:
    """A deletion of a batch. Of the conditions at most one may be given."""

    key: str
    if_version: str | None = None
    if_present: bool = False
    table: str | None = None
    """The table of the key; ``None`` for the one of the client."""


@dataclass(frozen=True)
class TableInfo:
    """A table."""

    name: str
    id: int
    """Tells it from earlier and later tables of its name: no two tables ever have one id. 0 for ``default``."""
    is_dropping: bool = False
    """Whether it is being dropped: its keys can neither be read nor written."""
    default_ttl: float | None = None
    """The time to live, in seconds, of values that are written without one."""
    value_bytes_max: int | None = None
    """The greatest value in bytes; ``None`` where all are accepted that any table takes."""
    quota_bytes: int | None = None
    """About how many bytes all keys and values may have together."""


@dataclass(frozen=True)
class TableCreated:
    """A table that is there after it was to be created."""

    table: TableInfo
    is_new: bool
    """Whether this call created it. It is there already only with ``if_missing``."""


@dataclass(frozen=True)
class NodeInfo:
    """One node of the cluster, as the node that answers sees it."""

    id: str
    address: str
    state: str
    """``LINKED``, ``UNREACHABLE``, ``REFUSED``, or ``SELF`` for the node that answers."""
    slots: int
    """The number of slots that it holds, of 65,536."""
    detail: str = ""
    """Why it is not linked; empty if it is."""


@dataclass(frozen=True)
class ClusterInfo:
    """The cluster, as the node that answers sees it."""

    node_id: str
    """The id of the node that answers."""
    seed: int
    """The seed of the placement hashes."""
    replica_count: int
    nodes: tuple[NodeInfo, ...]


@dataclass(frozen=True)
class NodeHealth:
    """The health of a node."""

    node_id: str
    status: str
    """``ONLINE``, ``STARTING``, ``DEGRADED``, ``DRAINING`` or ``REFUSED``."""
    serves: bool
    """Whether it takes requests and its disk takes writes."""
    detail: str
    """The reason of the status, and what to do; empty if the node is ``ONLINE``."""
    version: str
    """The version of the program."""


@dataclass(frozen=True)
class Tls:
    """How connections are encrypted, and who is believed. All parts are PEM."""

    ca: bytes | None = None
    """The certificates of the authorities that are believed; ``None`` for those of the system."""
    certificate: bytes | None = None
    """The client's own certificate, where nodes ask for one."""
    key: bytes | None = field(default=None, repr=False)
    """The key of the client's certificate."""
    server_name: str | None = None
    """The name that the nodes' certificates have, where it is not the host of their addresses."""

    @classmethod
    def from_files(
        cls,
        ca: str | os.PathLike[str] | None = None,
        certificate: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        *,
        server_name: str | None = None,
    ) -> Tls:
        """Reads the parts from files, as ``quorate ca`` writes them.

        :raises InvalidInput: If a file cannot be read.
        """

        def read(path: str | os.PathLike[str] | None) -> bytes | None:
            if path is None:
                return None
            try:
                with open(path, "rb") as file:
                    return file.read()
            except OSError as error:
                raise InvalidInput(f"a file for TLS: {error}") from None

        return cls(read(ca), read(certificate), read(key), server_name)
