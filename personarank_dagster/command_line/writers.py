"""Commands that write files for others: caches, prepared tables, generated data, the picture of the graph."""

from pathlib import Path

import click

from personarank_dagster.command_line import completion
from personarank_dagster.command_line.options import project_options
from personarank_dagster.command_line.program import supervised

# What an interrupted one leaves.
WRITTEN = "what lies in --out may not be whole; the same command writes it anew"


@click.command()
@click.argument("partition", shell_complete=completion.partitions)
@click.option("--out", type=Path, required=True, help="Folder to write user_item/ and item_persona/ into.")
@project_options
@supervised(leaves=WRITTEN)
def export_caches(partition: str, out: Path) -> None:
    """Write both caches of the dataset PARTITION in the layout of the public scripts."""
    from personarank_dagster.definitions import project
    from personarank_dagster.defs.caches.export import export_caches as export

    for folder in export(project.outputs(partition), out):
        click.echo(folder)


@click.command()
@click.argument("partition", shell_complete=completion.partitions)
@click.option(
    "--out", type=Path, required=True, help="Folder to write 2_summary.jsonl … 4_selected_personas.jsonl into."
)
@project_options
@supervised(leaves=WRITTEN)
def export_prepared(partition: str, out: Path) -> None:
    """Copy what `prepare` wrote for the dataset PARTITION, under the public names."""
    from personarank_dagster.command_line.preparation import export_prepared as export

    for path in export(partition, out):
        click.echo(path)


@click.command()
@click.option("--out", type=Path, required=True, help="Folder to write <amazon|yelp>/*.jsonl.gz into.")
@click.option("--seed", type=click.IntRange(0), default=13, show_default=True)
@click.option("--users", type=click.IntRange(1), default=160, show_default=True, help="Users of each dataset.")
@supervised(leaves=WRITTEN)
def sample_data(out: Path, seed: int, users: int) -> None:
    """Generate datasets in the schema of the inputs; equal seed and users give equal rows."""
    from personarank_dagster.sample.files import write_sample_files

    for path in write_sample_files(out, num_users=users, seed=seed):
        click.echo(path)


@click.command()
@click.option("--out", type=Path, required=True, help="Folder to write reviews.jsonl.gz and meta.jsonl.gz into.")
@click.option("--seed", type=click.IntRange(0), default=13, show_default=True)
@click.option("--users", type=click.IntRange(1), default=160, show_default=True)
@supervised(leaves=WRITTEN)
def sample_reviews(out: Path, seed: int, users: int) -> None:
    """Generate raw reviews and items, of which nothing is prepared; equal seed and users give equal rows."""
    from personarank_dagster.sample.raw_reviews import write_raw_reviews

    for path in write_raw_reviews(out, num_users=users, seed=seed):
        click.echo(path)


@click.command()
@click.option("--out", type=Path, required=True, help="Picture to write (.svg or .png).")
@project_options
@supervised(leaves=WRITTEN)
def graph(out: Path) -> None:
    """Draw the asset graph from the definitions."""
    from personarank_dagster.command_line.reports.graph_picture import draw_graph
    from personarank_dagster.definitions import defs, project
    from personarank_dagster.defs.graph import all_assets

    order = [asset.key for asset in all_assets(project.mount)]
    draw_graph(sorted(defs.resolve_all_asset_specs(), key=lambda spec: order.index(spec.key)), out)
    click.echo(out)


COMMANDS = (export_caches, export_prepared, sample_data, sample_reviews, graph)
