"""What assets are given: the project's configuration and outputs, the device, the progress display."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field, ValidationError

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.configuration.settings import TrainConfig
from personarank_dagster.core.encoders import Precision
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.defs.platform.io.outputs import Outputs
from personarank_dagster.defs.platform.mounts import Mount
from personarank_dagster.defs.platform.partitions import UNPARTITIONED
from personarank_dagster.storage.versions import VersionStore

if TYPE_CHECKING:
    from personarank_dagster.encoding.devices import TrainingPrecision

# Between lines of the log, and until the first observation; each one takes twice as long as that before it.
LOG_SECONDS, OBSERVATION_SECONDS = 10, 30

# Characters of a line that has room for a bar and several numbers.
WIDE = 120

# Versions to keep where no dataset says how many.
KEEP_ALL = 10**9


class ProjectResource(dg.ConfigurableResource[Any]):
    """The configured datasets and where their outputs are kept. Set by the mount, not by run config."""

    mount: dg.ResourceDependency[Mount]

    def dataset(self, name: str) -> DatasetConfig:
        """Configuration of one dataset, read anew, so that an edit counts in the next step."""
        return self.mount.dataset(name)

    def outputs(self, partition: str) -> Outputs:
        """Outputs of a dataset, or of what belongs to none; of those as many are kept as of the most of a dataset."""
        if partition == UNPARTITIONED:
            keep = max((outputs.keep for outputs in self.all_outputs().values()), default=KEEP_ALL)
            shared = self.mount.shared_outputs()
            return Outputs(partition, shared.folder, shared.bucket, keep)
        config = self.dataset(partition)
        return Outputs(partition, config.data.out_root, config.bucket, config.data.keep, config.data.schema)

    def all_outputs(self) -> dict[str, Outputs]:
        """Outputs of every dataset whose files can be read: one that breaks a rule costs itself alone."""
        found: dict[str, Outputs] = {}
        for name in self.mount.datasets:
            with suppress(ConfigError):
                found[name] = self.outputs(name)
        return found

    def problems(self) -> list[str]:
        """What is wrong with the files of the datasets that cannot be read."""
        found: list[str] = []
        for name in self.mount.datasets:
            try:
                self.dataset(name)
            except ConfigError as error:
                found += str(error).splitlines()
        return found

    def versions(self, asset: str, partition: str) -> VersionStore:
        """Versions of one asset and partition."""
        return self.outputs(partition).versions(asset)


class GpuResource(dg.ConfigurableResource[Any]):
    """The device that computes. `auto` takes a GPU where there is one, and bf16 where the device has it."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="cpu, cuda, mps, or auto: the best that is there."
    )
    devices: int = Field(
        0, ge=0, le=64, description="How many GPUs may be used at once, by num_gpus; 0: all that are there."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Precision of encoding and training; auto: bf16 where the hardware computes in it.",
    )
    memory_share: float = Field(1.0, ge=0.05, le=1, description="Share of a GPU's memory that a step may take.")

    def torch_device(self) -> str:
        """Name of the device for torch; a GPU then gives this process no more than the memory share.

        Raises ConfigError if it was asked for and is not there, or has fewer devices.
        """
        import torch

        device, _ = self._chosen_device()
        if device == "cuda":
            for number in range(self.num_devices()):
                torch.cuda.set_per_process_memory_fraction(self.memory_share, number)
        return device

    def num_devices(self) -> int:
        """How many devices may be used. Raises ConfigError if fewer are there."""
        import torch

        device, _ = self._chosen_device()
        there = torch.cuda.device_count() if device == "cuda" else 1
        if self.devices > there:
            raise ConfigError(
                f"gpu.devices must be at most {there}, as many as {device} has here, got {self.devices}"
            )
        return self.devices or there

    def torch_devices(self, number: int) -> list[str]:
        """Devices for so many processes, which share a CPU's cores. Raises ConfigError if there are not as many."""
        device = self.torch_device()
        if device == "cpu" or number <= 1:
            return [device] * max(1, number)
        allowed = self.num_devices()
        if number > allowed:
            why = "gpu.devices allows no more" if self.devices else f"{device} has no more here"
            raise ConfigError(f"num_gpus must be at most {allowed}, got {number}: {why}")
        return [f"{device}:{index}" for index in range(number)]

    def encoding_precision(self) -> Precision:
        """Precision of encoding on the chosen device."""
        return self._chosen_precision()[0]

    def training_precision(self, config: TrainConfig) -> "TrainingPrecision":
        """Precision of a training on the chosen device; `amp: false` and heads have fp32 whatever is configured."""
        from personarank_dagster.encoding.devices import training_precision

        if self.precision == "auto" or not config.amp or config.tune == "head":
            return training_precision(config, self._chosen_device()[0])
        return self.precision

    def description(self) -> dict[str, str | int | float]:
        """What was chosen and why, as metadata."""
        (device, why), (precision, why_precise) = self._chosen_device(), self._chosen_precision()
        chosen: dict[str, str | int | float] = {
            "device": device,
            "device_reason": why,
            "precision": precision,
            "precision_reason": why_precise,
            "devices": self.num_devices(),
        }
        return chosen | ({"memory_share": self.memory_share} if device == "cuda" else {})

    def _chosen_device(self) -> tuple[str, str]:
        import torch

        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        if self.device == "auto":
            device = next(name for name in available if available[name])
            return device, f"auto: there is {' and '.join(name for name in available if available[name])}"
        if not available[self.device]:
            raise ConfigError(f"gpu.device {self.device}: this machine has none; set gpu.device to auto or cpu")
        return self.device, "as configured"

    def _chosen_precision(self) -> tuple[Precision, str]:
        if self.precision != "auto":
            return self.precision, "as configured"
        from personarank_dagster.encoding.devices import computes_in_bf16

        device, _ = self._chosen_device()
        if computes_in_bf16(device):
            return "bf16", f"auto: {device} computes in it"
        return "fp32", f"auto: {device} has no bf16"


def bounded(resource: dg.ConfigurableResource[Any], name: str) -> dg.ResourceDefinition:
    """The resource for Definitions: numbers out of bounds are refused when a run is launched.

    Dagster's own types of configuration have closed lists but no bounds, and a resource is only built by the first
    step; what maps the configuration is called at the launch. Messages say `name`.
    """
    definition = resource.get_resource_definition()

    def within_bounds(config: dict[str, Any]) -> dict[str, Any]:
        try:
            type(resource)(**config)
        except ValidationError as error:
            rules = "; ".join(f"{name}.{_broken_rule(one)}" for one in error.errors())
            raise dg.DagsterInvalidConfigError(rules, [], config) from None  # type: ignore[no-untyped-call]
        return config

    return dg.configured(definition, config_schema=definition.config_schema.as_field())(within_bounds)


def _broken_rule(error: Mapping[str, Any]) -> str:
    rule = error["msg"].replace("Input should", "must")
    return f"{'.'.join(map(str, error['loc']))} {rule}, got {error['input']!r}"


Advance = Callable[[int], None]


class ProgressResource(dg.ConfigurableResource[Any]):
    """Shows how far a long step is: throttled numbers in the UI and, from the command line, a bar."""

    terminal: bool = Field(False, description="Also draw progress bars in the terminal.")

    @contextmanager
    def track(
        self,
        context: dg.AssetExecutionContext,
        task: str,
        total: int,
        *,
        more: Callable[[], Mapping[str, float]] = dict,
    ) -> Iterator[Advance]:
        """Give a function that takes the number of units finished since its last call.

        `more` gives further numbers, as they are at the moment, to be shown beside.
        """
        label = f"{context.partition_key} · {task}" if context.has_partition_key else task
        with _bar(label, total, shown=self.terminal and total > 0) as advance_bar:
            started = last = time.monotonic()
            done, wait = 0, OBSERVATION_SECONDS

            def advance(count: int) -> None:
                nonlocal done, last, wait
                done += count
                advance_bar(count, _in_words(more()))
                now = time.monotonic()
                if now - last >= LOG_SECONDS or (done == total and now - started >= LOG_SECONDS):
                    last = now
                    rate = done / (now - started)
                    left = (total - done) / rate
                    said = "".join(f", {text}" for text in (_in_words(more()),) if text)
                    context.log.info(f"{task}: {done}/{total}, {rate:.1f}/s, {left:.0f} s left{said}")
                    if now - started >= wait:
                        wait *= 2
                        numbers = {"done": done, "of": total, "per_second": rate, "seconds_left": left, **more()}
                        _observe(context, task=task, **numbers)

            yield advance


def _in_words(numbers: Mapping[str, float]) -> str:
    """Numbers with their names: 1,200 tokens, 35.2 tokens/s; those that are 0 say nothing."""
    return ", ".join(
        f"{value:,.3g} {name}" if abs(value) < 100 else f"{value:,.0f} {name}"
        for name, value in numbers.items()
        if value
    )


def _observe(context: dg.AssetExecutionContext, **numbers: Any) -> None:
    """Show numbers on the page of the asset while its step runs."""
    partition = context.partition_key if context.has_partition_key else None
    context.log_event(dg.AssetObservation(context.asset_key, partition=partition, metadata=numbers))


@contextmanager
def _bar(label: str, total: int, *, shown: bool) -> Iterator[Callable[[int, str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    description, rate = TextColumn("{task.description}"), TextColumn("{task.fields[rate]}")
    columns = (description, BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        task = progress.add_task(label, total=total, rate="")

        def advance(count: int, said: str) -> None:
            speed = progress.tasks[task].speed
            parts = [f"{speed:.1f}/s"] if speed else []
            # On a narrow screen the bar would have no room beside more.
            if said and progress.console.width >= WIDE:
                parts.append(said)
            progress.update(task, advance=count, rate=", ".join(parts))

        yield advance
