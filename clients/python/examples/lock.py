"""A lock with a fencing token: of three threads, one at a time works on something.

The lock ends by itself where its holder dies. A holder that is paused can lose it without notice. So each holder has a token,
a number that is greater than that of every holder before it. What the lock protects refuses a smaller one.
"""

from __future__ import annotations

import os
import threading
import time
import uuid

import quorate

ADDRESSES = os.environ.get("QUORATE_ADDRESS", "127.0.0.1:8001,127.0.0.1:8002,127.0.0.1:8003").split(",")
TTL = 10.0


class Lock:
    def __init__(self, client: quorate.Client, key: str, version: str, token: int) -> None:
        self._client, self._key, self._version = client, key, version
        self.token = token

    @classmethod
    def try_take(cls, client: quorate.Client, key: str) -> Lock | None:
        """Takes the lock, unless somebody has it."""
        state = client.state(key)
        if state.found:
            return None
        try:
            # An absence has a version too. A write that names a version is sent again where a node dies.
            taken = client.set(key, str(uuid.uuid4()), if_version=state.version, ttl=TTL)
        except (quorate.ConditionFailed, quorate.OutcomeUnknown):
            # A lock that was perhaps taken ends by itself.
            return None
        while True:
            try:
                # A token that is drawn in vain does no harm.
                token = client.add(f"{key}/tokens").value
                break
            except quorate.OutcomeUnknown:
                pass
        lock = cls(client, key, taken.version, token)
        return lock if lock.keep() else None

    def keep(self) -> bool:
        """Keeps the lock for another TTL. ``False`` if it is lost."""
        try:
            self._version = self._client.set(self._key, str(self.token), if_version=self._version, ttl=TTL).version
        except (quorate.ConditionFailed, quorate.OutcomeUnknown):
            return False
        return True

    def release(self) -> None:
        """Gives the lock back. A lock that is lost is left alone."""
        try:
            self._client.delete(self._key, if_version=self._version)
        except (quorate.ConditionFailed, quorate.OutcomeUnknown):
            pass


def write(client: quorate.Client, key: str, token: int) -> bool:
    """Writes to what the lock protects. ``False`` if a later holder has written already."""

    def change(old: quorate.Versioned | None) -> str | None:
        seen, turns = map(int, str(old.value).split()) if old else (0, 0)
        return f"{token} {turns + 1}" if seen < token else None

    return client.update(key, change) is not None


printed: list[int] = []
perhaps: list[int] = []


def work(client: quorate.Client) -> None:
    for _ in range(4):
        while not (lock := Lock.try_take(client, "printer")):
            time.sleep(0.05)
        try:
            if lock.keep() and write(client, "printer/page", lock.token):
                printed.append(lock.token)
                print("printed, with token", lock.token)
            else:
                print("lost the lock")
        except quorate.OutcomeUnknown:
            perhaps.append(lock.token)
        lock.release()


with quorate.Client(ADDRESSES) as client:
    client.delete("printer/page")
    threads = [threading.Thread(target=work, args=(client,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    page = client.get("printer/page")
    turns = int(str(page.value).split()[1]) if page else 0
    is_right = len(printed) <= turns <= len(printed) + len(perhaps)
    print("each page was printed once" if is_right else f"{turns} pages, and {len(printed)} were printed")
