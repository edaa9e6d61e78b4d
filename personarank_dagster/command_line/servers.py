"""Commands that serve until they are ended: the Dagster UI, reranking, the stand-in for a language model."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from personarank_dagster.command_line.options import on_instance, project_options
from personarank_dagster.command_line.program import plain_errors, supervised
from personarank_dagster.command_line.supervision import Interrupted
from personarank_dagster.core.errors import UsageError

UI = "the Dagster UI has ended, and runs that it had begun with it; what they published is kept"


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
@click.option("--read-only", is_flag=True, help="Show everything and change nothing; starts no daemon.")
@click.option(
    "--public-url", metavar="URL", help="Address of a proxy with a login in front, like https://ui.example.org."
)
@project_options
@on_instance
@supervised(leaves=UI)
def ui(port: int, read_only: bool, public_url: str | None) -> None:
    """Serve the Dagster UI on this machine, for this machine only, with what runs schedules and backfills."""
    from personarank_dagster.ui.serve import serve

    serve(port=port, read_only=read_only, public_url=public_url)


@click.command(name="serve")
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
@project_options
@plain_errors
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
    from personarank_dagster.service.processes.server import serve
    from personarank_dagster.service.settings import Limits, Settings, read_token

    limits = Limits(max_body_kb << 10, max_candidates, in_flight=max_in_flight, seconds=timeout)
    token = read_token(token_file) if token_file else None
    serve(Settings(token=token, limits=limits, **options), places(datasets_here(), datasets))


@click.command(name="llm-stand-in")
@click.option("--port", type=click.IntRange(1, 65535), required=True)
@click.option("--fault-share", type=click.FloatRange(0, 1), default=0.0, help="Share of requests that go wrong.")
@click.option("--fault", "faults", multiple=True, help="Which ones; can be repeated. [default: some that pass]")
@click.option("--latency", type=click.FloatRange(0), default=0.0, help="Seconds that an answer takes.")
@click.option("--seed", type=click.IntRange(0), default=13, show_default=True)
@click.option("--log", type=Path, help="File to write every request into.")
@plain_errors
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


COMMANDS = (ui, serve_command, llm_stand_in)
