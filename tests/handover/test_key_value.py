import os
import signal
import subprocess
import sys
import time
from typing import Any

import msgspec
import polars as pl
import pytest

from personarank_dagster.configuration.export_settings import RedisExport
from personarank_dagster.core.errors import StorageError
from personarank_dagster.handover.key_value import HandedOver, Keys, connect, hand_over, read_list
from tests.handover.conftest import make_lists

KEYS = Keys("personarank", "amazon")
FIRST = {"u1": [("i1", 0.9), ("i2", 0.123456789)], "u2": [("i2", 0.5)]}


def hand(client: Any, server: RedisExport, lists: dict, version: str, before: HandedOver | None = None) -> Any:
    return hand_over(client, make_lists(lists), server, dataset="amazon", version=version, before=before)


def known(version: str, sent: Any) -> HandedOver:
    return HandedOver(version, dict(sent.digests.rows()))


def test_readers_get_the_current_list_of_a_user(client: Any, server: RedisExport) -> None:
    sent = hand(client, server, FIRST, "v1")
    assert (sent.sent, sent.copied, sent.removed) == (2, 0, [])
    assert read_list(client, KEYS, "u1") == {"items": ["i1", "i2"], "scores": [0.9, 0.123457]}
    assert read_list(client, KEYS, "nobody") is None
    assert 29 * 86_400 < client.ttl(KEYS.of("v1", "u1")) <= 30 * 86_400


def test_only_users_whose_list_changed_are_sent_and_the_one_before_stays(client: Any, server: RedisExport) -> None:
    first = hand(client, server, FIRST, "v1")
    second = hand(client, server, FIRST | {"u2": [("i3", 1.0)]}, "v2", known("v1", first))
    assert (second.sent, second.copied, second.removed) == (1, 1, [])
    assert [read_list(client, KEYS, user)["items"] for user in ("u1", "u2")] == [["i1", "i2"], ["i3"]]
    third = hand(client, server, {"u1": [("i9", 1.0)]}, "v3", known("v2", second))
    assert third.removed == ["v1"]
    assert read_list(client, KEYS, "u2") is None
    assert {key.split(":")[2] for key in client.keys("*")} == {"current", "versions", "v2", "v3"}


def test_what_the_server_has_lost_is_sent_again(client: Any, server: RedisExport) -> None:
    first = hand(client, server, FIRST, "v1")
    client.flushall()
    assert hand(client, server, FIRST, "v2", known("v1", first)).sent == 2
    assert read_list(client, KEYS, "u2") == {"items": ["i2"], "scores": [0.5]}


def test_a_version_that_was_gone_back_from_is_removed(client: Any, server: RedisExport) -> None:
    first = hand(client, server, FIRST, "v1")
    second = hand(client, server, FIRST, "v2", known("v1", first))
    assert hand(client, server, FIRST, "v1", known("v2", second)).removed == ["v2"]
    assert client.get(KEYS.current) == "v1"


def test_only_the_first_places_are_handed_over(client: Any, server: RedisExport) -> None:
    hand(client, msgspec.structs.replace(server, places=1), FIRST, "v1")
    assert read_list(client, KEYS, "u1") == {"items": ["i1"], "scores": [0.9]}


SLOW = """
import sys, time, polars as pl
from personarank_dagster.configuration.export_settings import RedisExport
from personarank_dagster.handover import key_value
from tests.handover.conftest import make_lists
key_value.PIPELINED_USERS = 50
send = key_value._Writer._send
key_value._Writer._send = lambda self, values: (send(self, values), time.sleep(0.05))
lists = make_lists({f"u{n}": [("new", 1.0)] for n in range(5000)})
with key_value.connect(RedisExport(url=sys.argv[1])) as client:
    key_value.hand_over(client, lists, RedisExport(url=sys.argv[1]), dataset="amazon", version="v2", before=None)
"""


def test_killed_in_the_middle_readers_see_the_old_lists_and_the_next_time_all_is_right(
    client: Any, server: RedisExport
) -> None:
    hand(client, server, FIRST, "v1")
    process = subprocess.Popen([sys.executable, "-c", SLOW, server.url], env=os.environ)
    while not client.exists(KEYS.of("v2", "u200")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert client.exists(KEYS.of("v2", "u1"))
    assert read_list(client, KEYS, "u1")["items"] == ["i1", "i2"]
    hand(client, server, FIRST, "v3")
    assert (client.get(KEYS.current), client.smembers(KEYS.versions)) == ("v3", {"v2", "v3"})
    hand(client, server, FIRST, "v4")
    assert not client.keys("*:v2:*")


def test_a_server_that_is_not_there_is_an_error_of_one_line(tmp_path) -> None:
    pytest.importorskip("redis", reason="the extra redis is not installed")
    settings = RedisExport(url=f"unix://{tmp_path}/nothing")
    with pytest.raises(StorageError, match="the server answered: "), connect(settings) as client:
        hand_over(client, pl.DataFrame(make_lists(FIRST)), settings, dataset="a", version="v", before=None)
