"""The Ray cluster that a run works on: joined once by a process, and left when it ends."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from personarank_dagster.core.errors import ConfigError, reason_of

ADDRESS_VARIABLE = "PERSONARANK_RAY_ADDRESS"

# A cluster of one node that this process starts, and that ends with it.
OF_ITS_OWN = "local"

# Ray sends statistics of usage home unless it is told not to, and would hide GPUs by a rule that it is giving up.
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

# How long the head of a cluster may take to answer.
KNOCK_SECONDS = 10.0

MISSING = "engine ray: Ray is not installed here; pip install 'personarank-dagster[ray]', or engine local"


@dataclass(frozen=True)
class Cluster:
    """Where a cluster is, and what is asked of it: so many actors, 0 for all that fit, of so much each."""

    address: str = "auto"
    actors: int = 0
    cpus_per_actor: float = 1.0
    gpus_per_actor: float = 0.0

    @property
    def device(self) -> str:
        """What an actor computes on."""
        return "cuda" if self.gpus_per_actor else "cpu"

    @property
    def threads(self) -> int:
        """Threads of an actor."""
        return max(1, int(self.cpus_per_actor))


def address_here() -> str:
    """The address in $PERSONARANK_RAY_ADDRESS, else in Ray's own $RAY_ADDRESS, else auto.

    Raises ConfigError for Ray's client, whose work goes on for half a minute after its process is gone.
    """
    address = os.environ.get(ADDRESS_VARIABLE) or os.environ.get("RAY_ADDRESS") or "auto"
    if address.startswith("ray://"):
        raise ConfigError(
            f"{ADDRESS_VARIABLE} must be auto, {OF_ITS_OWN} or HOST:PORT, got {address}: work of Ray's client "
            "outlives a run that is killed; make this machine a node of the cluster (ray start --address=HOST:6379 "
            "--num-cpus=0) and write auto"
        )
    return address


def joined(cluster: Cluster) -> Any:
    """The module `ray`, of this process now a part of the cluster.

    Raises ConfigError where Ray is not installed or there is no cluster.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError(MISSING) from None
    if not ray.is_initialized():
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        alone = {"include_dashboard": False} if cluster.address == OF_ITS_OWN else {}
        try:
            _knock(cluster.address)
            with _own_signal_handlers():
                ray.init(cluster.address, log_to_driver=False, logging_level="ERROR", **alone)
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigError(
                f"{ADDRESS_VARIABLE} {cluster.address}: no cluster answers: {reason_of(error)}; start one with "
                f"`ray start --head`, or write {OF_ITS_OWN} for one that a run starts itself"
            ) from error
    return ray


def _knock(address: str) -> None:
    """Raise OSError if nobody listens there: Ray asks again for minutes, and hears no signal meanwhile."""
    if address not in ("auto", OF_ITS_OWN):
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), KNOCK_SECONDS).close()


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Ray makes SIGTERM an exit without clean-up; a run that is terminated has to end its work first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
