"""What commands have in common: datasets, JSON, and the project with its Dagster instance."""

from functools import wraps
from pathlib import Path
from typing import Any

import click

from personarank_dagster.command_line import completion
from personarank_dagster.command_line.program import Command, plain_errors

# Where the context of a command holds the root of the project's Dagster instance.
PROJECT = "personarank.project_root"

partition_option = click.option(
    "--partition",
    "partitions",
    multiple=True,
    metavar="NAME|all",
    shell_complete=completion.partitions,
    help="Dataset; can be repeated. [default: all]",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def project_options(command: Command) -> Command:
    """`--config-dir` and `--out-root`, which set the environment for everything below."""

    @click.option(
        "--config-dir",
        type=Path,
        help="Folder of the datasets. [default: $PERSONARANK_CONFIG_DIR, ./configs]",
    )
    @click.option(
        "--out-root",
        help="Outputs go to <that>/<dataset>; a folder or s3://bucket/prefix. [default: $PERSONARANK_OUT_ROOT]",
    )
    @wraps(command)
    def run(*args: Any, config_dir: Path | None, out_root: str | None, **kwargs: Any) -> None:
        # Not at the top: it loads numpy and polars, and a Ctrl-C before this module is there is a traceback.
        from personarank_dagster.command_line.instances import choose_root, project_root

        click.get_current_context().meta[PROJECT] = project_root()
        choose_root(config_dir, out_root)
        command(*args, **kwargs)

    return run


def on_instance(command: Command) -> Command:
    """Find the Dagster instance before there are two processes; what is only tried needs none."""

    @plain_errors
    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        from personarank_dagster.command_line.instances import use_instance

        if not kwargs.get("dry_run"):
            use_instance(click.get_current_context().meta[PROJECT])
        command(*args, **kwargs)

    return run
