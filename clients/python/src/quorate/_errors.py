"""Errors of the clients, sorted by what the caller does next."""

from __future__ import annotations

from dataclasses import dataclass, field

CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)


@dataclass(frozen=True)
class NodeFailure:
    """The failure of a request at one node: the node's answer, or the reason why there was none."""

    address: str
    """The node's address, as it was given to the client."""
    message: str
    """What went wrong, for a person."""
    code: str = "UNKNOWN"
    """The name of the gRPC status code."""
    reason: str | None = None
    """The node's reason, such as ``NO_QUORUM``. ``None`` if the failure comes from the connection."""
    metadata: dict[str, str] = field(default_factory=dict, compare=False)
    """The node's account: ``slot``, ``replicas``, ``needed``, and ``replica.ID`` for the state of each replica."""

    def __str__(self) -> str:
        return f"{self.address}: {self.message}"


class QuorateError(Exception):
    """Any failure of an operation. The subclasses say what the caller does next."""


class InvalidInput(QuorateError, ValueError):
    """The input is not accepted, and nothing was sent. Correct the input."""


# The arguments of each exception are those of its constructor, so that it can be pickled.


class NotApplied(QuorateError):
    """The write certainly did not happen, and will not. It was tried until the deadline, and may be sent again."""

    def __init__(self, last: NodeFailure, tried_for: float) -> None:
        super().__init__(last, tried_for)
        self.last = last
        self.tried_for = tried_for

    def __str__(self) -> str:
        return f"not written, certainly: {self.last} (tried for {self.tried_for:.1f} s; safe to send again)"


class OutcomeUnknown(QuorateError):
    """The write may have happened, or may still happen. Read the key to find out.

    Send the same write again only if writing it twice does no harm.
    """

    def __init__(self, node: NodeFailure) -> None:
        super().__init__(node)
        self.node = node

    def __str__(self) -> str:
        hint = "" if self.node.reason else " (read the key to find out)"
        return f"may or may not be written: {self.node}{hint}"


class ConditionFailed(QuorateError):
    """The condition does not hold, and the write never takes effect. Look at the key, and decide anew."""

    def __init__(self, version: str, has_value: bool) -> None:
        super().__init__(version, has_value)
        self.version = version
        self.has_value = has_value

    def __str__(self) -> str:
        has = "a value" if self.has_value else "no value"
        return f"not written: the condition does not hold; the key has {has}, version {self.version}"


class NotANumber(QuorateError):
    """The value to add to is no number in decimal, or the sum is out of 64 bits. The addition never takes effect."""

    def __init__(self, version: str) -> None:
        super().__init__(version)
        self.version = version

    def __str__(self) -> str:
        return (
            "not added: the value is no number in decimal, or the sum is out of 64 bits; "
            f"its version is {self.version}"
        )


class NoSuchTable(QuorateError):
    """There is no table of this name, or there is none any more. ``client.tables.create`` makes it."""

    def __init__(self, node: NodeFailure) -> None:
        super().__init__(node)
        self.node = node


class TableExists(QuorateError):
    """There is a table of this name already, so that it was not created."""

    def __init__(self, node: NodeFailure) -> None:
        super().__init__(node)
        self.node = node


class Unavailable(QuorateError):
    """No node answered the read before the deadline. It may be asked again at any time."""

    def __init__(self, last: NodeFailure, tried_for: float) -> None:
        super().__init__(last, tried_for)
        self.last = last
        self.tried_for = tried_for

    def __str__(self) -> str:
        return f"not answered: {self.last} (tried for {self.tried_for:.1f} s; safe to ask again)"


class Refused(QuorateError):
    """The node refuses the request, and would refuse it again. Nothing was written. Correct the request."""

    def __init__(self, node: NodeFailure) -> None:
        super().__init__(node)
        self.node = node

    def __str__(self) -> str:
        return f"refused: {self.node}"


class TryNext(Exception):
    """Inside the client: another node may be tried, because the failed try had no effect."""

    def __init__(self, failure: NodeFailure) -> None:
        super().__init__(failure)
        self.failure = failure
