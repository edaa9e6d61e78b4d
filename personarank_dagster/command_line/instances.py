"""Which Dagster instance a command uses: that of the project, or one of the root it works in.

What a run of another root or configuration made is nothing that the project's instance may show as its own: its
lineage would turn red, and its datasets would point into an experiment.
"""

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml

from personarank_dagster.configuration.dataset import CONFIG_DIR_VARIABLE, config_dir
from personarank_dagster.configuration.out_roots import OUT_ROOT_VARIABLE, is_address, shared_out_root
from personarank_dagster.core.errors import ConfigError

HOME_VARIABLE = "DAGSTER_HOME"
FILE = "dagster.yaml"
# The folder of instances in a root; no dataset can be called so.
OWN = ".dagster"
# Of dagster.yaml, what says where an instance keeps things, and where its runs are started.
OF_ONE_INSTANCE = {
    "storage",
    "run_storage",
    "event_log_storage",
    "schedule_storage",
    "defs_state_storage",
    "compute_logs",
    "local_artifact_storage",
    "run_launcher",
}


@dataclass(frozen=True)
class Root:
    """The folder of the datasets, and what replaces their out_root."""

    configs: str
    out_root: str = ""


def project_root() -> Root:
    """The root of the instance: of $DAGSTER_HOME that of the environment, else the `configs` of this folder."""
    return chosen_root() if os.environ.get(HOME_VARIABLE) else Root(os.path.realpath("configs"))


def chosen_root() -> Root:
    """The root that the environment names, where options put themselves too."""
    out_root = os.environ.get(OUT_ROOT_VARIABLE) or ""
    place = out_root.rstrip("/") if is_address(out_root) else out_root and os.path.realpath(out_root)
    return Root(os.path.realpath(config_dir()), place)


def choose_root(configs: Path | None, out_root: str | None) -> None:
    """Put the options into the environment, for everything below."""
    if configs is not None:
        os.environ[CONFIG_DIR_VARIABLE] = str(configs.absolute())
    if out_root is not None:
        os.environ[OUT_ROOT_VARIABLE] = out_root if is_address(out_root) else str(Path(out_root).resolve())


def use_instance(of_project: Root) -> None:
    """Set $DAGSTER_HOME: the project's, or that of the chosen root where it is another one, which is made.

    That of a component of the project is none of its own. Raises ConfigError where there is no project.
    """
    home, chosen = _project_home(), chosen_root()
    if chosen != of_project and chosen not in _roots_of_components():
        home = _own_home(home)
    os.environ[HOME_VARIABLE] = str(home)


def shown_by() -> str:
    """The command that shows the runs of this instance, where it is that of a root; "" where it is the project's."""
    if Path(os.environ.get(HOME_VARIABLE, "")).parent.name != OWN:
        return ""
    root = chosen_root()
    configs = [] if root.configs == os.path.realpath("configs") else ["--config-dir", root.configs]
    return shlex.join(["personarank", "ui", *configs, *(["--out-root", root.out_root] if root.out_root else [])])


def _project_home() -> Path:
    """$DAGSTER_HOME, else this folder if it has a dagster.yaml."""
    if home := os.environ.get(HOME_VARIABLE):
        if not (Path(home).is_absolute() and Path(home).is_dir()):
            raise ConfigError(f"{HOME_VARIABLE} must be the absolute path of a folder, got {home!r}")
        return Path(home)
    if not Path(FILE).is_file():
        raise ConfigError(
            f"{HOME_VARIABLE} is not set and this folder has no {FILE}; run this in the project's folder"
        )
    return Path.cwd()


def _own_home(project: Path) -> Path:
    """Folder of the instance of the chosen root; it keeps all in itself, and else is as the project's."""
    place = shared_out_root(config_dir())
    home = place.folder / OWN / "-".join([config_dir().name, *_words(place.bucket)])
    try:
        home.mkdir(parents=True, exist_ok=True)
        _write_settings(project / FILE, home / FILE)
    except OSError as error:
        raise ConfigError(
            f"{home}: the Dagster instance of this --out-root cannot be written: {error.strerror}; make it writable"
        ) from error
    return home


def _roots_of_components() -> list[Root]:
    from personarank_dagster.component.projects import mounts_of

    return [Root(os.path.realpath(mount.datasets_folder)) for mount in mounts_of(Path.cwd())]


def _words(address: str | None) -> list[str]:
    return re.findall(r"[\w.]+", address or "")


def _write_settings(project: Path, own: Path) -> None:
    """To be seen whole by whoever reads it meanwhile."""
    settings = yaml.safe_load(project.read_text()) if project.is_file() else None
    kept = {key: value for key, value in (settings or {}).items() if key not in OF_ONE_INSTANCE}
    temporary = own.with_name(f".{FILE}-{os.getpid()}")
    temporary.write_text(yaml.safe_dump(kept))
    temporary.replace(own)
