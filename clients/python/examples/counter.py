"""A counter that counts each event once, although nodes die meanwhile."""

import asyncio
import os

import quorate

ADDRESSES = os.environ.get("QUORATE_ADDRESS", "127.0.0.1:8001,127.0.0.1:8002,127.0.0.1:8003").split(",")


class Counter:
    """A counter, as one of its users sees it."""

    def __init__(self, client: quorate.AsyncClient, key: str) -> None:
        self._client, self._key = client, key
        # A version of the key that an earlier answer gave.
        self._seen = ""

    async def add(self, delta: int = 1) -> int:
        """Adds once, and returns the sum.

        The rare ``OutcomeUnknown`` says that it has perhaps counted. So may one of very many additions at a time: a record
        remembers the last eight.
        """
        self._seen = self._seen or (await self._client.state(self._key)).version
        while True:
            try:
                # An addition that names a version is sent again where a node dies, and counts once.
                added = await self._client.add(self._key, delta, since=self._seen)
            except quorate.ConditionFailed as error:
                # Others have counted too often since. This addition certainly did not: try from here.
                self._seen = error.version
            else:
                self._seen = added.version
                return added.value


async def main() -> None:
    async with quorate.AsyncClient(ADDRESSES) as client:
        await client.delete("visits")

        counted = perhaps = 0

        async def visitor() -> None:
            nonlocal counted, perhaps
            counter = Counter(client, "visits")
            for _ in range(10):
                try:
                    await counter.add()
                    counted += 1
                except quorate.OutcomeUnknown:
                    perhaps += 1

        await asyncio.gather(*(visitor() for _ in range(5)))
        found = await client.get("visits")
        visits = int(found.value) if found else 0
        is_right = counted <= visits <= counted + perhaps
        print(f"{visits} visits, {perhaps} of unknown outcome:", "each counted once" if is_right else "miscounted")


asyncio.run(main())
