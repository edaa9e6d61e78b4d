import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from personarank_dagster.core.errors import ConfigError, EncoderError
from personarank_dagster.distributed import pool as module
from personarank_dagster.distributed.cluster import Cluster, joined
from personarank_dagster.distributed.pool import Pool, Work


def doubling() -> Work[int, int]:
    return lambda shard, again: 2 * shard


def dying_over_3(times: int, folder: Path) -> Work[int, tuple[int, bool]]:
    """Ends the process over the shard 3, so many times."""

    def work(shard: int, again: bool) -> tuple[int, bool]:
        if shard == 3 and len(list(folder.iterdir())) < times:
            (folder / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return shard, again

    return work


def dying() -> Work[int, int]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def refusing() -> Work[int, int]:
    raise EncoderError("st_path m: is not there")


def slow() -> Work[int, int]:
    def work(shard: int, again: bool) -> int:
        time.sleep(0.5 if shard == 0 else 600)
        return os.getpid()

    return work


def test_every_shard_has_its_result(address: str) -> None:
    with Pool[int, int](Cluster(address), doubling) as pool:
        assert pool.room() == 2
        assert sorted(pool.results(range(5))) == [0, 2, 4, 6, 8]


def test_the_shard_of_a_lost_actor_goes_to_another_who_knows_that_somebody_began(
    address: str, tmp_path: Path
) -> None:
    with Pool[int, tuple[int, bool]](Cluster(address), partial(dying_over_3, 1, tmp_path)) as pool:
        assert sorted(pool.results(range(5))) == [(0, False), (1, False), (2, False), (3, True), (4, False)]


def test_a_shard_that_loses_actor_after_actor_is_an_error_that_is_tried_again(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LOSSES", 1)
    with (
        Pool[int, tuple[int, bool]](Cluster(address), partial(dying_over_3, 9, tmp_path)) as pool,
        pytest.raises(ConnectionError, match="2 actors were lost one after the other, each over the same work"),
    ):
        list(pool.results(range(5)))


def test_actors_that_are_lost_while_they_start_are_an_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LOSSES", 1)
    with (
        Pool[int, int](Cluster(address), dying) as pool,
        pytest.raises(ConnectionError, match="2 actors were lost one after the other, each while it started"),
    ):
        list(pool.results([1]))


def test_what_an_actor_raises_is_raised(address: str) -> None:
    with Pool[int, int](Cluster(address), refusing) as pool, pytest.raises(EncoderError, match=r"^st_path m: is not"):
        list(pool.results([1]))


def test_actors_that_nothing_has_room_for_are_an_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 1)
    with (
        Pool[int, int](Cluster(address, cpus_per_actor=9), doubling) as pool,
        pytest.raises(ConfigError, match="actor of 9 CPUs and 0 GPUs must start within 1 s; the cluster has 2 CPUs"),
    ):
        list(pool.results([1]))


def test_no_actor_outlives_the_pool(address: str) -> None:
    with Pool[int, int](Cluster(address, actors=1), slow) as pool:
        pid = next(pool.results([0, 1]))
        assert psutil.pid_exists(pid)
    ended(pid)


def test_a_terminated_process_ends_as_it_did_before_it_joined(address: str) -> None:
    import ray

    ray.shutdown()
    before = signal.getsignal(signal.SIGTERM)
    joined(Cluster(address))
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_cluster_that_is_not_there_is_an_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    ray.shutdown()
    with pytest.raises(ConfigError, match=r"PERSONARANK_RAY_ADDRESS 127\.0\.0\.1:1: no cluster answers"):
        joined(Cluster("127.0.0.1:1"))


def ended(pid: int, seconds: float = 20) -> None:
    """Wait until a process is gone."""
    deadline = time.monotonic() + seconds
    while is_there(pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_there(pid: int) -> Any:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
