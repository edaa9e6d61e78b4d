"""Train on a cluster: an actor for each rank, all there or none; after a loss again, from the last checkpoint.

The checkpoints, and the tables that are learned from, are in a folder that all nodes share.
"""

import math
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from personarank_dagster.core.errors import ConfigError, EncoderError, PersonarankError, StorageError, reason_of
from personarank_dagster.distributed.cluster import Cluster, joined
from personarank_dagster.distributed.pool import LOOK_SECONDS, MAX_LOSSES, START_SECONDS, THREAD_VARIABLES

if TYPE_CHECKING:
    from personarank_dagster.encoding.train import RankJob

# How long a node may take to come in the place of a lost one, before the training goes on with fewer ranks.
REPLACEMENT_SECONDS = 60.0
# A lost rank may first be known as an error of the others: how long after that the loss becomes known.
NEWS_SECONDS = 10.0

# Lines of the first rank about the training.
SAID = "said.txt"

Say = Callable[[str], object]


class Rank:
    """A rank of one training, in a process of its own that trains once."""

    def __init__(self, threads: int) -> None:
        os.environ.update({name: str(threads) for name in THREAD_VARIABLES})

    def meeting_point(self) -> tuple[str, int]:
        """Address and a free port of this node, where the ranks find each other."""
        import ray

        with socket.socket() as free:
            free.bind(("", 0))
            return ray.util.get_node_ip_address(), free.getsockname()[1]

    def train(self, job: "RankJob", rank: int, world: int, meeting_point: tuple[str, int]) -> None:
        """Train as one of so many ranks."""
        if not job.out.is_dir():
            raise StorageError(
                f"{job.out}: is not there on a node of the cluster; out_root, or work_dir where that is a bucket, "
                "must be in a folder that all nodes share"
            )
        # One rank is what a process without ranks is.
        if world > 1:
            # An actor sees no device but its own.
            names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
            os.environ.update(zip(names, map(str, (rank, world, 0, *meeting_point)), strict=True))
        from personarank_dagster.encoding.train import throttled, train_rank

        with (job.out / SAID if rank == 0 else Path(os.devnull)).open("a") as lines:
            train_rank(job, throttled(lambda line: print(line, file=lines, flush=True)))


def train_on_ray(job: "RankJob", ranks: int, cluster: Cluster, say: Say) -> None:
    """Train with so many ranks; after a loss with as many as there is room for then, from the last checkpoint.

    Raises EncoderError with the message of a rank that failed; ConnectionError, which is tried again, where ranks are
    lost time after time without a new checkpoint.
    """
    losses = Counter[tuple[Path, ...]]()
    with (job.out / SAID).open("a+") as lines:
        while (lost := _trained(job, ranks, cluster, lambda: _pass_on(lines, say), again=bool(losses))) is not None:
            checkpoints = _whole_checkpoints(job)
            losses[checkpoints] += 1
            if losses[checkpoints] > MAX_LOSSES:
                raise ConnectionError(
                    f"engine ray: ranks were lost {losses[checkpoints]} times without a new checkpoint, the last: "
                    f"{reason_of(lost)}; has a rank memory enough, and are checkpoints written often enough?"
                ) from lost
            say(f"a rank was lost: {reason_of(lost)}; the training goes on from its last checkpoint")


def _trained(
    job: "RankJob", ranks: int, cluster: Cluster, look: Callable[[], None], *, again: bool
) -> Exception | None:
    """Train once; what Ray says of the rank that was lost, if one was."""
    with Ranks(cluster, ranks, after_loss=again) as there:
        errors = there.ray.exceptions
        try:
            there.train(job, look)
        except errors.RayError as error:
            lost: Exception = error
            return lost
    return None


def _pass_on(lines: TextIO, say: Say) -> None:
    for line in lines:
        say(line.rstrip())


def _whole_checkpoints(job: "RankJob") -> tuple[Path, ...]:
    """Others than before mean that the training gets on."""
    return tuple(sorted(job.checkpoints.rglob("checkpoint-*/whole"))) if job.checkpoints else ()


class Ranks:
    """Actors that train together. They end with the block, and with this process.

    Raises ConfigError where nodes have no room for all of them. After a loss fewer will do; ConnectionError where
    there is no room for one.
    """

    def __init__(self, cluster: Cluster, number: int, *, after_loss: bool = False) -> None:
        self.ray = joined(cluster)
        self.threads = cluster.threads
        # Two ranks cannot talk to each other from the same GPU, so each has one of its own.
        self.asked = {"CPU": cluster.cpus_per_actor, "GPU": 1.0 if cluster.gpus_per_actor else 0.0}
        self.room = self._room_for_some(number) if after_loss else self._room_for_all(number)
        self.actors: list[Any] = []

    def __enter__(self) -> "Ranks":
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        actor = self.ray.remote(max_restarts=0, max_task_retries=0)(Rank)
        for place in range(self.room.bundle_count):
            there = PlacementGroupSchedulingStrategy(self.room, placement_group_bundle_index=place)
            asked = {"num_cpus": self.asked["CPU"], "num_gpus": self.asked["GPU"], "scheduling_strategy": there}
            self.actors.append(actor.options(**asked).remote(self.threads))
        return self

    def __exit__(self, *error: object) -> None:
        from ray.util.placement_group import remove_placement_group

        # To take a process group apart can hang for ever; nothing of a rank is needed after its result is written.
        for actor in self.actors:
            self.ray.kill(actor)
        remove_placement_group(self.room)

    def train(self, job: "RankJob", look: Callable[[], None]) -> None:
        """Train to the end, and look meanwhile.

        Raises Ray's own error for a rank that is lost, EncoderError for one that fails.
        """
        meeting_point = self.ray.get(self.actors[0].meeting_point.remote(), timeout=START_SECONDS)
        world = len(self.actors)
        awaited = {
            actor.train.remote(job, rank, world, meeting_point): rank for rank, actor in enumerate(self.actors)
        }
        failed: EncoderError | None = None
        deadline = math.inf
        while awaited and time.monotonic() < deadline:
            ended, _ = self.ray.wait(list(awaited), timeout=LOOK_SECONDS)
            look()
            for rank, cause in [(awaited.pop(future), self._cause(future)) for future in ended]:
                if cause is not None and failed is None:
                    failed = EncoderError(f"trained_encoder: rank {rank} failed: {type(cause).__name__}: {cause}")
                    deadline = time.monotonic() + (0 if isinstance(cause, PersonarankError) else NEWS_SECONDS)
        if failed:
            raise failed

    def _cause(self, future: Any) -> BaseException | None:
        """What a rank raised, None if it has trained. Raises Ray's error for one that is lost."""
        try:
            self.ray.get(future)
        except self.ray.exceptions.RayTaskError as error:
            cause: BaseException = error.cause
            return cause
        return None

    def _room_for_all(self, number: int) -> Any:
        if room := self._room(number, START_SECONDS):
            return room
        there = self.ray.cluster_resources()
        raise ConfigError(
            f"engine ray: {number} ranks of {self.asked['CPU']:g} CPUs and {self.asked['GPU']:g} GPUs must have room "
            f"within {START_SECONDS:.0f} s; the cluster has {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} "
            "GPUs; lower num_gpus in train.yaml or compute.cpus_per_actor, or add nodes"
        )

    def _room_for_some(self, number: int) -> Any:
        for fewer in range(number, 0, -1):
            if room := self._room(fewer, REPLACEMENT_SECONDS if fewer == number else LOOK_SECONDS):
                return room
        raise ConnectionError("engine ray: no node that is left has room for a rank; add nodes, then run again")

    def _room(self, number: int, seconds: float) -> Any:
        """Room for so many ranks, on as few nodes as possible; None if there is none within so many seconds."""
        from ray.util.placement_group import placement_group, remove_placement_group

        room = placement_group([{name: each for name, each in self.asked.items() if each}] * number, "PACK")
        deadline = time.monotonic() + seconds
        # In looks of a second, since nothing that the system asks of this process is heard within one.
        while not room.wait(LOOK_SECONDS):
            if time.monotonic() > deadline:
                remove_placement_group(room)
                return None
        return room
