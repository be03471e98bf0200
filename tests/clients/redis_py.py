"""A conversation of redis-py, or of valkey-py, with the node at the port that is given, in both versions of the protocol."""

import importlib
import sys

LIBRARY, PORT = sys.argv[1], int(sys.argv[2])
redis = importlib.import_module(LIBRARY)
NoBackoff = importlib.import_module(f"{LIBRARY}.backoff").NoBackoff
Retry = importlib.import_module(f"{LIBRARY}.retry").Retry
EVERY_BYTE = bytes(range(256))


def converse(version):
    client = redis.Redis(port=PORT, protocol=version, decode_responses=True, retry=Retry(NoBackoff(), 0))
    client.delete("py", "py2", "pyn", "bytes")
    assert client.set("py", "1") is True and client.get("py") == "1" and client.get("none") is None
    assert client.set("py", "2", nx=True) is None and client.set("py", "3", xx=True, get=True) == "1"
    assert client.set("py", "4", ex=100) and 0 < client.ttl("py") <= 100
    assert client.persist("py") and client.ttl("py") == -1 and client.ttl("none") == -2
    assert client.expire("py", 50, nx=True) and not client.expire("py", 40, gt=True)
    assert client.incrby("pyn", 42) == 42 and client.decr("pyn") == 41 and client.incrbyfloat("pyn", 0.5) == 41.5
    assert client.mset({"py2": "x"}) and client.mget("py", "py2", "none") == ["4", "x", None]
    assert client.append("py2", "yz") == 3 and client.getrange("py2", 0, 1) == "xy" and client.setrange("py2", 1, "Q") == 3
    assert client.exists("py", "py2", "none") == 2 and client.type("py") == "string" and client.type("none") == "none"
    assert sorted(client.scan_iter("py*")) == sorted(client.keys("py*")) == ["py", "py2", "pyn"]
    assert client.getdel("py2") == "xQz" and client.getex("py", px=100_000) == "4"
    pipeline = client.pipeline(transaction=False)
    for number in range(100):
        pipeline.set(f"pipe{number}", number)
    for number in range(100):
        pipeline.get(f"pipe{number}")
    assert pipeline.execute() == [True] * 100 + [str(number) for number in range(100)]
    assert client.delete(*[f"pipe{number}" for number in range(100)]) == 100
    try:
        client.pipeline().set("py", "never").execute()
        raise AssertionError("transactions are not served")
    except redis.ResponseError as error:
        assert "not served" in str(error), error
    seen, _ = client.execute_command("QGETV", "py")
    assert client.get("py") == "4", "nothing of a refused transaction is done"
    assert client.execute_command("QCAS", "py", seen, "5") and client.execute_command("QCAS", "py", seen, "6") is None
    assert client.client_setname("tester") and client.client_getname() == "tester" and client.client_id() > 0
    assert client.info()["redis_version"] and client.ping() and client.config_get("maxmemory")
    raw = redis.Redis(port=PORT, protocol=version)
    assert raw.set("bytes", EVERY_BYTE) and raw.get("bytes") == EVERY_BYTE
    client.delete("py", "pyn", "bytes")


for protocol in (2, 3):
    converse(protocol)
print(f"{LIBRARY}-py", redis.__version__, "is content in RESP2 and RESP3")
