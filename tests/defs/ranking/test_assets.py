import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.defs.platform.io.formats import RerankMetrics
from personarank_dagster.defs.ranking.assets import _metric_numbers
from personarank_dagster.ranking.metrics import Coverage

VALUES = {"lift": 0.2, "lift_low": -0.1, "lift_high": 0.5, "candidate": 0.1, "reranked": 0.12}
COVERAGE = Coverage(9, 0, 0, 0, 9)


def test_the_numbers_of_the_metrics_begin_with_the_gain_and_how_sure_it_is() -> None:
    cut_offs = [{"scenario": "all", "metric": name, "k": k} for name in ("HIT", "NDCG") for k in (5, 10, 20)]
    rows = [one | VALUES | {"personal_lift": one["k"] / 100} for one in cut_offs]
    numbers = _metric_numbers(RerankMetrics(pl.DataFrame(rows, schema=schemas.METRICS), COVERAGE, {}, pl.DataFrame()))
    first = ["reranked NDCG@10", "lift NDCG@10", "lift_low NDCG@10", "lift_high NDCG@10", "personal_lift NDCG@10"]
    assert list(numbers)[:5] == first
    assert [numbers[name] for name in first] == [0.12, 0.2, -0.1, 0.5, 0.1]
