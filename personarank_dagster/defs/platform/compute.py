"""The engine that computes: this machine, or a Ray cluster."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field

from personarank_dagster.core.encoders import Precision
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.defs.platform.resources import GpuResource

if TYPE_CHECKING:
    from personarank_dagster.distributed.cluster import Cluster

ENGINE_VARIABLE = "PERSONARANK_ENGINE"

EngineName = Literal["local", "ray"]
ENGINES: Mapping[str, EngineName] = {"local": "local", "ray": "ray"}


class ComputeResource(dg.ConfigurableResource[Any]):
    """Where texts are encoded and lists ranked. Results are the same; addresses come from the environment."""

    engine: Literal["auto", "local", "ray"] = Field(
        "auto", description="local: this machine; ray: a Ray cluster; auto: $PERSONARANK_ENGINE, else local."
    )
    actors: int = Field(0, ge=0, le=4096, description="Actors on the cluster; 0: as many as fit on its nodes.")
    cpus_per_actor: float = Field(1.0, ge=0.1, le=256, description="CPUs of the cluster that an actor takes.")
    gpus_per_actor: float = Field(0.0, ge=0, le=8, description="GPUs of the cluster that an actor takes.")

    def chosen(self) -> EngineName:
        """The engine. Raises ConfigError if the environment names another one."""
        if self.engine != "auto":
            return self.engine
        name = os.environ.get(ENGINE_VARIABLE) or "local"
        if name not in ENGINES:
            raise ConfigError(f"{ENGINE_VARIABLE} must be local or ray, got {name!r}")
        return ENGINES[name]

    def cluster(self) -> "Cluster | None":
        """The cluster to work on; None for this machine. Raises ConfigError for an address that is none."""
        if self.chosen() == "local":
            return None
        from personarank_dagster.distributed.cluster import Cluster, address_here

        return Cluster(address_here(), self.actors, self.cpus_per_actor, self.gpus_per_actor)

    def encoding_precision(self, gpu: GpuResource) -> Precision:
        """Precision of encoding: that of this machine, but on GPUs of a cluster bf16 unless another is asked for."""
        if self.gpus_per_actor and gpu.precision == "auto" and self.chosen() == "ray":
            return "bf16"
        return gpu.encoding_precision()

    def description(self) -> dict[str, str | int | float]:
        """What was chosen, as metadata; nothing where it is this machine."""
        if self.chosen() == "local":
            return {}
        asked = {"actors": self.actors, "cpus_per_actor": self.cpus_per_actor, "gpus_per_actor": self.gpus_per_actor}
        return {"engine": "ray", **asked}


def this_machine() -> ComputeResource:
    """The engine of whoever asks for none; a resource is no default of a dataclass, being a descriptor."""
    return ComputeResource(engine="local", actors=0, cpus_per_actor=1.0, gpus_per_actor=0.0)
