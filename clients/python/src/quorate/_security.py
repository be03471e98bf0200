"""Where the token of a client comes from, and whether its files for TLS can be those."""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Callable
from typing import Union

from ._errors import InvalidInput
from ._types import Tls

Token = Union[str, Callable[[], str]]
"""A token, or a function that returns one for each call."""
Path = Union[str, "os.PathLike[str]"]

READ_AGAIN_AFTER = 1.0
"""How long the token of a file counts before the file is read again."""


def checked(token: str, of: str = "the token") -> str:
    """The token without the blanks around it. No error has its text."""
    if not isinstance(token, str):
        raise InvalidInput(f"{of} is no text")
    token = token.strip()
    if not token:
        raise InvalidInput(f"{of} is empty")
    if not all("!" <= character <= "~" for character in token):
        raise InvalidInput(f"{of} has characters that no token has: printable ASCII without blanks is accepted")
    return token


class TokenFile:
    """A token in a file. The file is read again once a second, so that a client goes on with the token that replaces it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path:
            raise InvalidInput("the file of the token has no name")
        try:
            self._token = self._read()
        except OSError as error:
            raise InvalidInput(f"the file of the token: {error}") from None
        self._read_at = time.monotonic()

    def __call__(self) -> str:
        now = time.monotonic()
        if now - self._read_at >= READ_AGAIN_AFTER:
            self._read_at = now
            try:
                self._token = self._read()
            except (OSError, InvalidInput):
                # The file is being replaced, perhaps. Nodes say whether the token before still counts.
                pass
        return self._token

    def _read(self) -> str:
        with open(self._path, encoding="utf-8", errors="replace") as file:
            return checked(file.read(), f"the token in {os.fspath(self._path)!r}")


def token_source(token: Token | None, token_file: Path | None) -> Callable[[], str] | None:
    """What returns the token for each call."""
    if token_file is not None:
        if token is not None:
            raise InvalidInput("both a token and a file of one are given: give one of them")
        return TokenFile(token_file)
    if token is None or callable(token):
        return token
    text = checked(token)
    return lambda: text


def is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def check_tls(tls: Tls) -> None:
    """The library tells of bad parts in its log alone, at the first connection."""
    if (tls.certificate is None) != (tls.key is None):
        raise InvalidInput("a certificate of the client needs its key, and a key its certificate: give both")
    for name, part, mark in (
        ("ca", tls.ca, b"-----BEGIN CERTIFICATE-----"),
        ("certificate", tls.certificate, b"-----BEGIN CERTIFICATE-----"),
        ("key", tls.key, b"PRIVATE KEY-----"),
    ):
        if part is not None and not (isinstance(part, bytes) and mark in part):
            raise InvalidInput(f"{name} of tls is not accepted: give the bytes of a file in PEM")
