"""How the client for threads ends: by itself, by another thread, by a signal, or with the process. It needs no node."""

import gc
import pickle
import signal
import threading
import time

import quorate

NOBODY = ["127.0.0.1:1"]


def loops() -> int:
    return sum(thread.name == "quorate" for thread in threading.enumerate())


def forgotten_client_ends_its_thread() -> None:
    client = quorate.Client(NOBODY, deadline=0.2)
    bound = client.table("other")
    del client
    gc.collect()
    try:
        bound.get("k")
        raise AssertionError("nobody answers")
    except quorate.Unavailable as error:
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error) and again.last == error.last
    assert loops() == 1
    del bound
    gc.collect()
    assert loops() == 0


def close_ends_what_waits() -> None:
    client = quorate.Client(NOBODY, deadline=30)
    told: list[BaseException] = []

    def wait() -> None:
        try:
            next(client.watch())
        except RuntimeError as error:
            told.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.2)
    client.close()
    client.close()
    thread.join(5)
    assert not thread.is_alive() and "closed meanwhile" in str(told[0])
    try:
        client.get("k")
        raise AssertionError("it is closed")
    except RuntimeError as error:
        assert "is closed" in str(error)


def signal_ends_an_operation_at_once() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    with quorate.Client(NOBODY, deadline=30) as client:
        began = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            client.set("k", "v")
            raise AssertionError("nobody answers")
        except KeyboardInterrupt:
            assert time.monotonic() - began < 5


forgotten_client_ends_its_thread()
close_ends_what_waits()
signal_ends_an_operation_at_once()
# The process ends with a client that nobody has closed.
left = quorate.Client(NOBODY)
