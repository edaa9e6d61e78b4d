"""What a shell offers where a name is typed: datasets, assets, versions, users. A mistake offers nothing."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps

import click
from click.shell_completion import get_completion_class

from personarank_dagster.core.errors import PersonarankError

VARIABLE = "_PERSONARANK_COMPLETE"
# As many as a person can look through.
MAX_NAMES = 50

Names = Callable[[click.Context], Iterator[str]]
Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def script_of(shell: str, program: click.Command) -> str:
    """The script that a shell reads to complete names."""
    completion = get_completion_class(shell)
    assert completion is not None, shell
    return completion(program, {}, "personarank", VARIABLE).source()


def _offered(names: Names) -> Complete:
    """Names that begin with what was typed; of a list joined by commas, its last one."""

    @wraps(names)
    def complete(context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
        before, comma, begun = typed.rpartition(",")
        with suppress(PersonarankError, OSError):
            _use_options(context)
            found = [name for name in names(context) if name.startswith(begun)]
            return [f"{before}{comma}{name}" for name in found[:MAX_NAMES]]
        return []

    return complete


def _use_options(context: click.Context) -> None:
    """Look where `--config-dir` and `--out-root` say, as the command will."""
    from personarank_dagster.configuration.dataset import CONFIG_DIR_VARIABLE
    from personarank_dagster.configuration.out_roots import OUT_ROOT_VARIABLE

    for option, variable in (("config_dir", CONFIG_DIR_VARIABLE), ("out_root", OUT_ROOT_VARIABLE)):
        if value := context.params.get(option):
            os.environ[variable] = str(value)


@_offered
def partitions(_context: click.Context) -> Iterator[str]:
    """Names of the datasets."""
    from personarank_dagster.component.datasets_here import datasets_here

    yield from datasets_here().names()


@_offered
def assets(_context: click.Context) -> Iterator[str]:
    """Names of the assets."""
    import personarank_dagster.defs.graph  # noqa: F401 - declares them
    from personarank_dagster.defs.platform.declarations import asset_names

    yield from asset_names()


@_offered
def versions(context: click.Context) -> Iterator[str]:
    """Versions of the asset and partition that were typed, newest first."""
    from personarank_dagster.definitions import project

    store = project.versions(context.params["asset"], context.params["partition"])
    yield from reversed(store.names())


@_offered
def users(context: click.Context) -> Iterator[str]:
    """Users with a list in the partition that was typed."""
    from personarank_dagster.definitions import project
    from personarank_dagster.defs.ranking.explanations import listed_users

    yield from listed_users(project, context.params["partition"])
