"""The command line `personarank`."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

import click

from personarank_dagster import __version__
from personarank_dagster.command_line import completion
from personarank_dagster.command_line.supervision import UNCHANGED, Interrupted, end, interruptible, supervise
from personarank_dagster.core.errors import ConfigError, PersonarankError, UsageError

# What an interrupted command leaves.
RUN = "what was published, encoded and checkpointed is kept, and the next run goes on from there"
VALIDATED = "what was published is kept, and the next `personarank validate` or `run` goes on from there"
PREPARED = "answers that came are kept and not asked for again; the next `personarank prepare` goes on from there"
WRITTEN = "what lies in --out may not be whole; the same command writes it anew"
ROLLED_BACK = "`personarank versions` shows which version is current"
RETIRED = "all versions that are left are whole; the next `personarank gc` removes the rest"
TREATED = "what was put right stays so; the next `personarank doctor` does the rest"

UI = "the Dagster UI has ended, and runs that it had begun with it; what they published is kept"

# What the context of a command holds that was typed.
TYPED = object()
# Where it holds the root of the project's Dagster instance.
PROJECT = "personarank.project_root"

Command = Callable[..., None]


class _Program(click.Group):
    """Commands that one Ctrl-C or SIGTERM ends where they are typed; those of tests stay in their process."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with interruptible():
                return self.main(*args, obj=TYPED, **kwargs)
        except Interrupted as interrupted:
            end(interrupted)


def _supervised(leaves: str) -> Callable[[Command], Command]:
    """Do the command in a process of its own, which a signal ends wherever it is; `leaves` says what of it stays."""

    def supervised(command: Command) -> Command:
        @_plain_errors
        @wraps(command)
        def run(*args: Any, **kwargs: Any) -> None:
            if click.get_current_context().obj is not TYPED:
                return command(*args, **kwargs)
            _load()
            code = supervise(lambda: _plain_errors(command)(*args, **kwargs), tidy=_tidy, leaves=leaves)
            if code < 0:
                click.echo(f"killed by {signal.Signals(-code).name}; {leaves}", err=True)
            sys.exit(code if code >= 0 else 128 - code)

        return run

    return supervised


def _load() -> None:
    """Load what tidies up before there are two processes; where no datasets are configured it cannot be."""
    with suppress(ConfigError):
        import dagster._core.storage.sqlite_storage  # noqa: F401

        import personarank_dagster.definitions
        import personarank_dagster.defs.automation.upkeep  # noqa: F401


class _Mistyped(click.ClickException):
    exit_code = 2


def _tidy() -> None:
    with suppress(ConfigError):
        from personarank_dagster.definitions import project
        from personarank_dagster.defs.automation.upkeep import tidy

        tidy(project)


def _plain_errors(command: Command) -> Command:
    """Print an error of ours as the lines that it is, without a traceback.

    Exit with 2 where it is about what was typed, as click does, and with 1 for all others.
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except OSError as error:
            if error.filename is None or error.strerror is None:
                raise
            raise click.ClickException(f"{error.filename}: cannot be used: {error.strerror}") from error
        except PersonarankError as error:
            raise (_Mistyped if isinstance(error, UsageError) else click.ClickException)(str(error)) from error

    return run


def _project_options(command: Command) -> Command:
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


def _on_instance(command: Command) -> Command:
    """Find the Dagster instance before there are two processes; what is only tried needs none."""

    @_plain_errors
    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        from personarank_dagster.command_line.instances import use_instance

        if not kwargs.get("dry_run"):
            use_instance(click.get_current_context().meta[PROJECT])
        command(*args, **kwargs)

    return run


_partition_option = click.option(
    "--partition",
    "partitions",
    multiple=True,
    metavar="NAME|all",
    shell_complete=completion.partitions,
    help="Dataset; can be repeated. [default: all]",
)


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="personarank")
def main() -> None:
    """Persona reranking as a Dagster asset graph."""


@main.command()
@_partition_option
@click.option(
    "--select",
    metavar="ASSETS",
    shell_complete=completion.assets,
    help="Assets by name, comma-separated; NAME+ with all after it, +NAME with all before it. [default: all]",
)
@click.option("--force", is_flag=True, help="Materialise what is selected even if nothing changed.")
@_project_options
@_on_instance
@_supervised(leaves=RUN)
def run(partitions: tuple[str, ...], select: str | None, force: bool) -> None:
    """Materialise datasets from raw files to metrics: what is missing, or whose inputs changed."""
    from personarank_dagster.command_line.console import run_and_report

    sys.exit(0 if run_and_report(partitions, select=select, force=force) else 1)


@main.command()
@_partition_option
@click.option("--strict", is_flag=True, help="Exit with 2 if a check warns.")
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
@_project_options
@_on_instance
@_supervised(leaves=VALIDATED)
def validate(partitions: tuple[str, ...], strict: bool, as_json: bool) -> None:
    """Read the raw files and check the data, and nothing else. Exit code 1 for errors, 0 or 2 for warnings."""
    from personarank_dagster.command_line.console import validate_and_report

    sys.exit(validate_and_report(partitions, strict=strict, as_json=as_json))


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@main.command()
@click.option("--partition", required=True, metavar="NAME", shell_complete=completion.partitions, help="Dataset.")
@click.option(
    "--user",
    metavar="ID",
    shell_complete=completion.users,
    help="Whose list. [default: one who moved up, one who moved down]",
)
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Places to show.")
@_json_option
@_project_options
@_supervised(leaves=UNCHANGED)
def explain(partition: str, user: str | None, top: int, as_json: bool) -> None:
    """Show a user's reranked list: old and new places, personas, and the interactions behind them."""
    from personarank_dagster.command_line.explanations import explain_and_report

    explain_and_report(partition, user, top=top, as_json=as_json)


def _listing(command: Command) -> Command:
    """A command that goes through the versions of an asset, or of all, and of the partitions that are named."""
    options = (
        click.argument("asset", required=False, shell_complete=completion.assets),
        _partition_option,
        _json_option,
        _project_options,
    )
    for option in reversed(options):
        command = option(command)
    return main.command()(command)


@_listing
@_supervised(leaves=UNCHANGED)
def versions(asset: str | None, partitions: tuple[str, ...], as_json: bool) -> None:
    """List the versions of ASSET, or of all assets."""
    from personarank_dagster.command_line.version_reports import show_versions

    show_versions(asset, partitions, as_json=as_json)


@main.command()
@click.argument("asset", shell_complete=completion.assets)
@click.argument("partition", shell_complete=completion.partitions)
@click.argument("version", required=False, shell_complete=completion.versions)
@click.option("--force", is_flag=True, help="Also to a version that its checks did not accept.")
@_json_option
@_project_options
@_on_instance
@_supervised(leaves=ROLLED_BACK)
def rollback(asset: str, partition: str, version: str | None, force: bool, as_json: bool) -> None:
    """Make an older VERSION of ASSET current again: the one before the current, or any by name."""
    from personarank_dagster.command_line.version_reports import roll_back_and_report

    roll_back_and_report(asset, partition, version, force=force, as_json=as_json)


@main.command()
@click.argument("partition", shell_complete=completion.partitions)
@click.argument("first")
@click.argument("second")
@_json_option
@_project_options
@_supervised(leaves=UNCHANGED)
def compare(partition: str, first: str, second: str, as_json: bool) -> None:
    """Compare two versions of rerank_metrics of PARTITION, user by user: the lift of SECOND over FIRST."""
    from personarank_dagster.command_line.comparisons import compare_and_report

    compare_and_report(partition, first, second, as_json=as_json)


@main.command()
@click.option("--keep", type=click.IntRange(1), help="Newest versions to keep. [default: keep in data.yaml]")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@_json_option
@_project_options
@_supervised(leaves=RETIRED)
def gc(keep: int | None, dry_run: bool, as_json: bool) -> None:
    """Remove old versions; current ones and those in use stay."""
    from personarank_dagster.command_line.version_reports import retire_and_report

    retire_and_report(keep=keep, dry_run=dry_run, as_json=as_json)


@_listing
@_supervised(leaves=UNCHANGED)
def verify(asset: str | None, partitions: tuple[str, ...], as_json: bool) -> None:
    """Hash every file of every version again. Exit code 1 if one is not what it was."""
    from personarank_dagster.command_line.version_reports import verify_and_report

    sys.exit(0 if verify_and_report(asset, partitions, as_json=as_json) else 1)


@main.command()
@_json_option
@_project_options
@_on_instance
@_supervised(leaves=TREATED)
def doctor(as_json: bool) -> None:
    """Put right what killed processes left behind. Exit code 1 if something is left for you to do."""
    from personarank_dagster.command_line.version_reports import treat_and_report

    sys.exit(0 if treat_and_report(as_json=as_json) else 1)


@main.command()
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
@click.option("--read-only", is_flag=True, help="Show everything and change nothing; starts no daemon.")
@click.option(
    "--public-url", metavar="URL", help="Address of a proxy with a login in front, like https://ui.example.org."
)
@_project_options
@_on_instance
@_supervised(leaves=UI)
def ui(port: int, read_only: bool, public_url: str | None) -> None:
    """Serve the Dagster UI on this machine, for this machine only, with what runs schedules and backfills."""
    from personarank_dagster.ui.serve import serve

    serve(port=port, read_only=read_only, public_url=public_url)


@main.command(name="serve")
@click.option(
    "--dataset", "datasets", multiple=True, metavar="NAME", help="Can be repeated. [default: all with outputs]"
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Any address but loopback needs --token-file.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes, one core each.")
@click.option("--token-file", type=Path, help="File with the token that `Authorization: Bearer` must hold.")
@click.option("--public-url", metavar="URL", help="Address of a proxy in front, like https://rerank.example.org.")
@click.option("--share", type=click.FloatRange(0, 1), default=1.0, help="Share of users that are reranked, by hash.")
@click.option("--shadow", is_flag=True, help="Pass all lists through, and log both orders.")
@click.option("--impressions", type=Path, metavar="FOLDER", help="Append what was shown to files in there.")
@click.option("--max-candidates", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--max-body-kb", type=click.IntRange(1), default=1024, show_default=True)
@click.option(
    "--max-in-flight", type=click.IntRange(1), default=256, show_default=True, help="Per worker; others get 429."
)
@click.option(
    "--timeout", type=click.FloatRange(0.1), default=10.0, show_default=True, help="Seconds for a request to arrive."
)
@click.option("--access-log/--no-access-log", default=True, show_default=True, help="A line a request, on stdout.")
@click.option("--log-ids", is_flag=True, help="Write user ids into these lines.")
@click.option("--open", "in_browser", is_flag=True, help="Open the page in a browser.")
@_project_options
@_plain_errors
def serve_command(
    datasets: tuple[str, ...],
    token_file: Path | None,
    max_candidates: int,
    max_body_kb: int,
    max_in_flight: int,
    timeout: float,
    **options: Any,
) -> None:
    """Rerank over HTTP, from what is published, without Dagster; `GET /` is a page to look at lists."""
    from personarank_dagster.component.datasets_here import datasets_here
    from personarank_dagster.service.command import places
    from personarank_dagster.service.server import serve
    from personarank_dagster.service.settings import Limits, Settings, read_token

    limits = Limits(max_body_kb << 10, max_candidates, in_flight=max_in_flight, seconds=timeout)
    token = read_token(token_file) if token_file else None
    serve(Settings(token=token, limits=limits, **options), places(datasets_here(), datasets))


@main.command()
@click.argument("partition", shell_complete=completion.partitions)
@click.option("--out", type=Path, required=True, help="Folder to write user_item/ and item_persona/ into.")
@_project_options
@_supervised(leaves=WRITTEN)
def export_caches(partition: str, out: Path) -> None:
    """Write both caches of the dataset PARTITION in the layout of the public scripts."""
    from personarank_dagster.definitions import project
    from personarank_dagster.defs.caches.export import export_caches as export

    for folder in export(project.outputs(partition), out):
        click.echo(folder)


@main.command()
@click.option("--out", type=Path, required=True, help="Folder to write <amazon|yelp>/*.jsonl.gz into.")
@click.option("--seed", type=click.IntRange(0), default=13, show_default=True)
@click.option("--users", type=click.IntRange(1), default=160, show_default=True, help="Users of each dataset.")
@_supervised(leaves=WRITTEN)
def sample_data(out: Path, seed: int, users: int) -> None:
    """Generate datasets in the schema of the inputs; equal seed and users give equal rows."""
    from personarank_dagster.sample.files import write_sample_files

    for path in write_sample_files(out, num_users=users, seed=seed):
        click.echo(path)


@main.command()
@click.option("--out", type=Path, required=True, help="Folder to write reviews.jsonl.gz and meta.jsonl.gz into.")
@click.option("--seed", type=click.IntRange(0), default=13, show_default=True)
@click.option("--users", type=click.IntRange(1), default=160, show_default=True)
@_supervised(leaves=WRITTEN)
def sample_reviews(out: Path, seed: int, users: int) -> None:
    """Generate raw reviews and items, of which nothing is prepared; equal seed and users give equal rows."""
    from personarank_dagster.sample.raw_reviews import write_raw_reviews

    for path in write_raw_reviews(out, num_users=users, seed=seed):
        click.echo(path)


@main.command()
@click.option("--out", type=Path, required=True, help="Picture to write (.svg or .png).")
@_project_options
@_supervised(leaves=WRITTEN)
def graph(out: Path) -> None:
    """Draw the asset graph from the definitions."""
    from personarank_dagster.command_line.graph_picture import draw_graph
    from personarank_dagster.definitions import defs, project
    from personarank_dagster.defs.graph import all_assets

    order = [asset.key for asset in all_assets(project.mount)]
    draw_graph(sorted(defs.resolve_all_asset_specs(), key=lambda spec: order.index(spec.key)), out)
    click.echo(out)


@main.command(name="prepare")
@click.option("--partition", required=True, metavar="NAME", help="Dataset with raw_reviews in its data.yaml.")
@click.option("--dry-run", is_flag=True, help="Only say what would be asked, and about what that costs.")
@click.option("--limit-items", type=click.IntRange(1), help="Only so many items, the most reviewed ones.")
@click.option("--limit-users", type=click.IntRange(1), help="Only so many users.")
@_project_options
@_on_instance
@_supervised(leaves=PREPARED)
def prepare_command(partition: str, dry_run: bool, limit_items: int | None, limit_users: int | None) -> None:
    """Make summaries, aspects, personas and selections from raw reviews, with the server of prepare.yaml."""
    from personarank_dagster.command_line.preparation import prepare_and_report

    found = prepare_and_report(partition, dry_run=dry_run, num_items=limit_items, num_users=limit_users)
    sys.exit(0 if found else 1)


@main.command()
@click.argument("partition", shell_complete=completion.partitions)
@click.option(
    "--out", type=Path, required=True, help="Folder to write 2_summary.jsonl … 4_selected_personas.jsonl into."
)
@_project_options
@_supervised(leaves=WRITTEN)
def export_prepared(partition: str, out: Path) -> None:
    """Copy what `prepare` wrote for the dataset PARTITION, under the public names."""
    from personarank_dagster.command_line.preparation import export_prepared as export

    for path in export(partition, out):
        click.echo(path)


@main.command(name="llm-stand-in")
@click.option("--port", type=click.IntRange(1, 65535), required=True)
@click.option("--fault-share", type=click.FloatRange(0, 1), default=0.0, help="Share of requests that go wrong.")
@click.option("--fault", "faults", multiple=True, help="Which ones; can be repeated. [default: some that pass]")
@click.option("--latency", type=click.FloatRange(0), default=0.0, help="Seconds that an answer takes.")
@click.option("--seed", type=click.IntRange(0), default=13, show_default=True)
@click.option("--log", type=Path, help="File to write every request into.")
@_plain_errors
def llm_stand_in(
    port: int, fault_share: float, faults: tuple[str, ...], latency: float, seed: int, log: Path | None
) -> None:
    """Serve a stand-in for a language model on this machine: no model, but answers of the right form."""
    from personarank_dagster.preparation.stand_in import FAULTS, StandIn, serve

    if unknown := sorted({*faults} - {*FAULTS}):
        raise UsageError(f"--fault must be one of {', '.join(FAULTS)}, got {unknown[0]!r}")
    stand_in = StandIn(fault_share=fault_share, latency=latency, seed=seed, log=log)
    stand_in.faults = faults or stand_in.faults
    click.echo(f"no language model, but its stand-in: base_url: http://127.0.0.1:{port}/v1  model: stand-in")
    # As of every server: a signal is how it is meant to end.
    with suppress(Interrupted):
        serve(stand_in, port)
    click.echo("the stand-in has ended", err=True)


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
@_plain_errors
def init(folder: Path, key_prefix: str, **params: Any) -> None:
    """Write a Dagster project into DIR, with generated files to try it; nothing that is there is written over."""
    from personarank_dagster.command_line.init import init_and_report
    from personarank_dagster.component.scaffolding import DatasetParams

    init_and_report(folder, DatasetParams(key_prefix=[part for part in key_prefix.split("/") if part], **params))


@main.command()
@click.option("--dir", "folder", type=Path, default=Path("personarank-demo"), show_default=True, help="Its folder.")
@click.pass_context
@_plain_errors
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
