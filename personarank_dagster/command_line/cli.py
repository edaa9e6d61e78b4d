"""The command line `personarank`."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from personarank_dagster import __version__
from personarank_dagster.command_line import completion, servers, writers
from personarank_dagster.command_line.options import json_option, on_instance, partition_option, project_options
from personarank_dagster.command_line.program import Command, Program, plain_errors, supervised
from personarank_dagster.command_line.supervision import UNCHANGED

# What an interrupted command leaves.
RUN = "what was published, encoded and checkpointed is kept, and the next run goes on from there"
VALIDATED = "what was published is kept, and the next `personarank validate` or `run` goes on from there"
PREPARED = "answers that came are kept and not asked for again; the next `personarank prepare` goes on from there"
ROLLED_BACK = "`personarank versions` shows which version is current"
RETIRED = "all versions that are left are whole; the next `personarank gc` removes the rest"
TREATED = "what was put right stays so; the next `personarank doctor` does the rest"


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="personarank")
def main() -> None:
    """Persona reranking as a Dagster asset graph."""


@main.command()
@partition_option
@click.option(
    "--select",
    metavar="ASSETS",
    shell_complete=completion.assets,
    help="Assets by name, comma-separated; NAME+ with all after it, +NAME with all before it. [default: all]",
)
@click.option("--force", is_flag=True, help="Materialise what is selected even if nothing changed.")
@project_options
@on_instance
@supervised(leaves=RUN)
def run(partitions: tuple[str, ...], select: str | None, force: bool) -> None:
    """Materialise datasets from raw files to metrics: what is missing, or whose inputs changed."""
    from personarank_dagster.command_line.console import run_and_report

    sys.exit(0 if run_and_report(partitions, select=select, force=force) else 1)


@main.command()
@partition_option
@click.option("--strict", is_flag=True, help="Exit with 2 if a check warns.")
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
@project_options
@on_instance
@supervised(leaves=VALIDATED)
def validate(partitions: tuple[str, ...], strict: bool, as_json: bool) -> None:
    """Read the raw files and check the data, and nothing else. Exit code 1 for errors, 0 or 2 for warnings."""
    from personarank_dagster.command_line.console import validate_and_report

    sys.exit(validate_and_report(partitions, strict=strict, as_json=as_json))


@main.command()
@click.option("--partition", required=True, metavar="NAME", shell_complete=completion.partitions, help="Dataset.")
@click.option(
    "--user",
    metavar="ID",
    shell_complete=completion.users,
    help="Whose list. [default: one who moved up, one who moved down]",
)
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Places to show.")
@json_option
@project_options
@supervised(leaves=UNCHANGED)
def explain(partition: str, user: str | None, top: int, as_json: bool) -> None:
    """Show a user's reranked list: old and new places, personas, and the interactions behind them."""
    from personarank_dagster.command_line.reports.explanations import explain_and_report

    explain_and_report(partition, user, top=top, as_json=as_json)


def _listing(command: Command) -> Command:
    """A command that goes through the versions of an asset, or of all, and of the partitions that are named."""
    options = (
        click.argument("asset", required=False, shell_complete=completion.assets),
        partition_option,
        json_option,
        project_options,
    )
    for option in reversed(options):
        command = option(command)
    return main.command()(command)


@_listing
@supervised(leaves=UNCHANGED)
def versions(asset: str | None, partitions: tuple[str, ...], as_json: bool) -> None:
    """List the versions of ASSET, or of all assets."""
    from personarank_dagster.command_line.reports.version_reports import show_versions

    show_versions(asset, partitions, as_json=as_json)


@main.command()
@click.argument("asset", shell_complete=completion.assets)
@click.argument("partition", shell_complete=completion.partitions)
@click.argument("version", required=False, shell_complete=completion.versions)
@click.option("--force", is_flag=True, help="Also to a version that its checks did not accept.")
@json_option
@project_options
@on_instance
@supervised(leaves=ROLLED_BACK)
def rollback(asset: str, partition: str, version: str | None, force: bool, as_json: bool) -> None:
    """Make an older VERSION of ASSET current again: the one before the current, or any by name."""
    from personarank_dagster.command_line.reports.version_reports import roll_back_and_report

    roll_back_and_report(asset, partition, version, force=force, as_json=as_json)


@main.command()
@click.argument("partition", shell_complete=completion.partitions)
@click.argument("first")
@click.argument("second")
@json_option
@project_options
@supervised(leaves=UNCHANGED)
def compare(partition: str, first: str, second: str, as_json: bool) -> None:
    """Compare two versions of rerank_metrics of PARTITION, user by user: the lift of SECOND over FIRST."""
    from personarank_dagster.command_line.reports.comparisons import compare_and_report

    compare_and_report(partition, first, second, as_json=as_json)


@main.command()
@click.option("--keep", type=click.IntRange(1), help="Newest versions to keep. [default: keep in data.yaml]")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
@project_options
@supervised(leaves=RETIRED)
def gc(keep: int | None, dry_run: bool, as_json: bool) -> None:
    """Remove old versions; current ones and those in use stay."""
    from personarank_dagster.command_line.reports.version_reports import retire_and_report

    retire_and_report(keep=keep, dry_run=dry_run, as_json=as_json)


@_listing
@supervised(leaves=UNCHANGED)
def verify(asset: str | None, partitions: tuple[str, ...], as_json: bool) -> None:
    """Hash every file of every version again. Exit code 1 if one is not what it was."""
    from personarank_dagster.command_line.reports.version_reports import verify_and_report

    sys.exit(0 if verify_and_report(asset, partitions, as_json=as_json) else 1)


@main.command()
@json_option
@project_options
@on_instance
@supervised(leaves=TREATED)
def doctor(as_json: bool) -> None:
    """Put right what killed processes left behind. Exit code 1 if something is left for you to do."""
    from personarank_dagster.command_line.reports.version_reports import treat_and_report

    sys.exit(0 if treat_and_report(as_json=as_json) else 1)


@main.command(name="prepare")
@click.option("--partition", required=True, metavar="NAME", help="Dataset with raw_reviews in its data.yaml.")
@click.option("--dry-run", is_flag=True, help="Only say what would be asked, and about what that costs.")
@click.option("--limit-items", type=click.IntRange(1), help="Only so many items, the most reviewed ones.")
@click.option("--limit-users", type=click.IntRange(1), help="Only so many users.")
@project_options
@on_instance
@supervised(leaves=PREPARED)
def prepare_command(partition: str, dry_run: bool, limit_items: int | None, limit_users: int | None) -> None:
    """Make summaries, aspects, personas and selections from raw reviews, with the server of prepare.yaml."""
    from personarank_dagster.command_line.preparation import prepare_and_report

    found = prepare_and_report(partition, dry_run=dry_run, num_items=limit_items, num_users=limit_users)
    sys.exit(0 if found else 1)


@main.command()
@click.argument("folder", metavar="DIR", type=Path)
@click.option("--dataset", default="example", show_default=True, help="Name of the dataset.")
@click.option(
    "--schema",
    "kind",
    type=click.Choice(["amazon", "yelp"]),
    default="amazon",
    show_default=True,
    help="Which aspects a review has.",
)
@click.option("--from-reviews", is_flag=True, help="Start from raw reviews, which a language model prepares.")
@click.option("--key-prefix", default="", metavar="A/B", help="Begins the keys of all assets.")
@plain_errors
def init(folder: Path, key_prefix: str, **params: Any) -> None:
    """Write a Dagster project into DIR, with generated files to try it; nothing that is there is written over."""
    from personarank_dagster.command_line.init import init_and_report
    from personarank_dagster.component.scaffolding import DatasetParams

    init_and_report(folder, DatasetParams(key_prefix=[part for part in key_prefix.split("/") if part], **params))


@main.command()
@click.option("--dir", "folder", type=Path, default=Path("personarank-demo"), show_default=True, help="Its folder.")
@click.pass_context
@plain_errors
def demo(context: click.Context, folder: Path) -> None:
    """Run both sample datasets from raw files to metrics, in a project of their own."""
    from personarank_dagster.command_line.init import write_demo

    write_demo(folder)
    os.chdir(folder)
    context.invoke(run)


@main.command(name="completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print what SHELL reads to complete commands and names: `eval "$(personarank completion bash)"`."""
    click.echo(completion.script_of(shell, main))


for command in (*servers.COMMANDS, *writers.COMMANDS):
    main.add_command(command)
