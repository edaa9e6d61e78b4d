"""A table that the team has anyway, and how it keeps its tables."""

import gzip
from pathlib import Path

import dagster as dg
import polars as pl

PROJECT = Path(__file__).parents[2]
REVIEWS = PROJECT / "../../data/sample/amazon/3.5_history_loo.jsonl.gz"


class ParquetIOManager(dg.ConfigurableIOManager):
    """A parquet file for each asset and partition."""

    def handle_output(self, context: dg.OutputContext, obj: pl.DataFrame) -> None:
        """Write the table."""
        path = self.path(context)
        path.parent.mkdir(parents=True, exist_ok=True)
        obj.write_parquet(path)

    def load_input(self, context: dg.InputContext) -> pl.DataFrame:
        """Read the table."""
        return pl.read_parquet(self.path(context))

    def path(self, context: dg.OutputContext | dg.InputContext) -> Path:
        """Where it lies."""
        return PROJECT.joinpath("outputs", "warehouse", *context.get_asset_identifier()).with_suffix(".parquet")


@dg.asset(key=["warehouse", "histories"], kinds={"polars"})
def histories() -> pl.DataFrame:
    """One row per user, with all reviews but the held-out one, as the file `loo_history` has them."""
    return pl.read_ndjson(gzip.decompress(REVIEWS.read_bytes()), infer_schema_length=None)


@dg.definitions
def tables() -> dg.Definitions:
    """The table, and the IO manager of all assets of the team."""
    return dg.Definitions(assets=[histories], resources={"io_manager": ParquetIOManager()})
