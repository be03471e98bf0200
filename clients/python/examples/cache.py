"""A cache: a copy of all keys with a prefix, in memory, that follows the cluster and misses no write.

A read of it may be older than a write that has ended: a program that needs the latest value asks the cluster.
"""

from __future__ import annotations

import os
import threading
import time

import quorate

ADDRESSES = os.environ.get("QUORATE_ADDRESS", "127.0.0.1:8001,127.0.0.1:8002,127.0.0.1:8003").split(",")


class Cache:
    def __init__(self, client: quorate.Client, prefix: str) -> None:
        self._watching = client.watch(prefix, values=True, with_list=True)
        self._values: dict[str, quorate.Value | None] = {}
        self._is_ready = threading.Event()
        self._follower = threading.Thread(target=self._follow, daemon=True)
        self._follower.start()

    def wait_ready(self, timeout: float = 10) -> bool:
        """Waits until all that is there was copied."""
        return self._is_ready.wait(timeout)

    def get(self, key: str) -> quorate.Value | None:
        return self._values.get(key)

    def __len__(self) -> int:
        return len(self._values)

    def close(self) -> None:
        self._watching.close()
        self._follower.join()

    def _follow(self) -> None:
        values = self._values
        for event in self._watching:
            if isinstance(event, quorate.Changed):
                values[event.key] = event.value
            elif isinstance(event, quorate.Deleted):
                values.pop(event.key, None)
            elif isinstance(event, quorate.Reset):
                # What is there is told again. The old copy serves until the new one is complete.
                values = {}
            elif isinstance(event, quorate.Ready):
                self._values = values
                self._is_ready.set()


with quorate.Client(ADDRESSES) as client:
    client.set("user:1", "Ada")
    cache = Cache(client, "user:")
    cache.wait_ready()
    print("first:", cache.get("user:1"))
    for number in range(2, 101):
        client.set(f"user:{number}", "Bob")
    client.set("user:1", "Ada Lovelace")
    client.delete("user:2")
    # A change is told a moment after it was made.
    until = time.monotonic() + 10
    while (len(cache), cache.get("user:1")) != (99, "Ada Lovelace") and time.monotonic() < until:
        time.sleep(0.01)
    print("now:", cache.get("user:1"), "of", len(cache))
    cache.close()
