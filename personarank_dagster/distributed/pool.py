"""Actors that work through shards: whichever are lost, with their node or alone, their shards go to others."""

import os
import pickle
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from personarank_dagster.core.errors import ConfigError, reason_of
from personarank_dagster.distributed.cluster import Cluster, joined

ShardT = TypeVar("ShardT")
ResultT = TypeVar("ResultT")

# Called with a shard, and whether somebody may have worked on it before.
Work = Callable[[ShardT, bool], ResultT]

# Actors that may be lost over one shard; how long one may take to start, since nodes may have to be started for it.
MAX_LOSSES, START_SECONDS = 3, 900.0
# What says how many threads polars, torch and the compiled loops take.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "POLARS_MAX_THREADS")
# Between looks at what the operating system asks of this process.
LOOK_SECONDS = 1.0


class Actor(Generic[ShardT, ResultT]):
    """One of the pool, in a process of its own; what is made and worked on comes and goes as paths and numbers."""

    def __init__(self, make: bytes, threads: int) -> None:
        # Read by libraries when they are loaded, which `make` does: a node's actors would each take all its cores.
        os.environ.update({name: str(threads) for name in THREAD_VARIABLES})
        self._make = make

    def start(self) -> None:
        """Make what works; not in the constructor, whose errors Ray reports as the loss of an actor."""
        self._work: Work[ShardT, ResultT] = pickle.loads(self._make)()

    def work(self, shard: ShardT, again: bool) -> ResultT:
        """The result of one shard."""
        return self._work(shard, again)


class Pool(Generic[ShardT, ResultT]):
    """Actors on a cluster, each with what `make` gives there. They end with the block, and with this process.

    They stay for whatever is asked of them next, so that what they have loaded is loaded once.
    Ray would restart lost actors itself, and wait for ever where the nodes that are left have no room for them.
    """

    def __init__(self, cluster: Cluster, make: Callable[[], Work[ShardT, ResultT]]) -> None:
        self.ray = joined(cluster)
        self.cluster = cluster
        self._make: bytes = self.ray.cloudpickle.dumps(make)
        self._class = self.ray.remote(
            num_cpus=cluster.cpus_per_actor, num_gpus=cluster.gpus_per_actor, max_restarts=0, max_task_retries=0
        )(Actor)
        # What is awaited: the actor, and its shard, or None while it starts.
        self._awaited: dict[Any, tuple[Any, ShardT | None]] = {}
        self._idle: list[Any] = []
        self._todo: deque[ShardT] = deque()
        # Actors lost over each shard; under None those lost one after the other while they started.
        self._losses: Counter[ShardT | None] = Counter()
        self._heard = time.monotonic()

    def __enter__(self) -> "Pool[ShardT, ResultT]":
        return self

    def __exit__(self, *error: object) -> None:
        for actor in [*self._idle, *(actor for actor, _ in self._awaited.values())]:
            self.ray.kill(actor)
        self._awaited.clear()
        self._idle.clear()

    def room(self) -> int:
        """As many actors as were asked for, else as fit on the nodes that are there now; at least one."""
        if self.cluster.actors:
            return self.cluster.actors
        there = self.ray.cluster_resources()
        asked = {"CPU": self.cluster.cpus_per_actor, "GPU": self.cluster.gpus_per_actor}
        return max(1, int(min(there.get(name, 0) / number for name, number in asked.items() if number)))

    def results(self, shards: Sequence[ShardT]) -> Iterator[ResultT]:
        """The results of all shards, as they come.

        Raises what the work raises; ConnectionError, which is tried again, where one shard loses actor after actor.
        """
        self._todo.extend(shards)
        for _ in range(min(self.room(), len(shards)) - len(self._idle) - len(self._awaited)):
            self._hire()
        while self._todo or any(shard is not None for _, shard in self._awaited.values()):
            yield from self._ended()
            while self._todo and self._idle:
                self._give(self._idle.pop())

    def _ended(self) -> Iterator[ResultT]:
        ended, _ = self.ray.wait(list(self._awaited), timeout=LOOK_SECONDS)
        for future in ended:
            actor, shard = self._awaited.pop(future)
            try:
                result = self.ray.get(future)
            except self.ray.exceptions.RayTaskError as error:
                self._idle.append(actor)
                raise error.cause from error
            except self.ray.exceptions.RayError as error:
                self._replace(actor, shard, error)
                continue
            self._heard = time.monotonic()
            self._idle.append(actor)
            if shard is None:
                del self._losses[None]
            else:
                yield result
        if all(shard is None for _, shard in self._awaited.values()):
            self._check_start()

    def _hire(self) -> None:
        actor = self._class.remote(self._make, self.cluster.threads)
        self._awaited[actor.start.remote()] = actor, None

    def _give(self, actor: Any) -> None:
        shard = self._todo.popleft()
        self._awaited[actor.work.remote(shard, self._losses[shard] > 0)] = actor, shard

    def _replace(self, actor: Any, shard: ShardT | None, error: Exception) -> None:
        """Go on without an actor. It may still be there, unheard: what it does is done again by another."""
        self.ray.kill(actor)
        self._losses[shard] += 1
        if self._losses[shard] > MAX_LOSSES:
            over = "while it started" if shard is None else "over the same work"
            raise ConnectionError(
                f"engine ray: {self._losses[shard]} actors were lost one after the other, each {over}; the last one: "
                f"{reason_of(error)}; is the same release of this package installed on every node, and has an actor "
                "memory enough?"
            ) from error
        if shard is not None:
            self._todo.appendleft(shard)
        self._heard = time.monotonic()
        self._hire()

    def _check_start(self) -> None:
        if self._awaited and not self._idle and time.monotonic() - self._heard > START_SECONDS:
            there = self.ray.cluster_resources()
            raise ConfigError(
                f"engine ray: an actor of {self.cluster.cpus_per_actor:g} CPUs and {self.cluster.gpus_per_actor:g} "
                f"GPUs must start within {START_SECONDS:.0f} s; the cluster has {there.get('CPU', 0):g} CPUs and "
                f"{there.get('GPU', 0):g} GPUs; lower compute.cpus_per_actor or gpus_per_actor, or add nodes"
            )
