"""The datasets that a command without Dagster means in this folder."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from personarank_dagster.component.project_files import mentions_component
from personarank_dagster.configuration.dataset import config_dir
from personarank_dagster.configuration.dataset_folder import DatasetFolder


def datasets_here() -> DatasetFolder:
    """Those of the project's component, else of the configs in this folder; chosen as by `mount_here`.

    A component is loaded in a process of its own, so that this one does without Dagster.
    """
    if not mentions_component(Path.cwd()):
        return DatasetFolder(config_dir())
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
        return other.submit(_datasets_of_component).result()


def _datasets_of_component() -> DatasetFolder:
    from personarank_dagster.component.projects import mount_here

    return mount_here().dataset_folder
