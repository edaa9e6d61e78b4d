"""The real reviews, where they are at hand: counts and candidate figures that were computed independently."""

from pathlib import Path

import pytest

from personarank_dagster.configuration.dataset import load_dataset
from personarank_dagster.core import validation
from personarank_dagster.core.histories import liked_interactions, training_pairs
from personarank_dagster.ranking import metrics
from personarank_dagster.raw import ingestion

REAL = Path(__file__).parents[2] / "shared" / "real"

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real reviews are not in {REAL}")

COUNTS = {
    "amazon": {"interactions": 3225, "personas": 1378, "selections": 1756, "users": 707, "in_list": 365},
    "yelp": {"interactions": 1699, "personas": 1337, "selections": 1026, "users": 253, "in_list": 194},
}
CANDIDATE_ORDER = {
    "amazon": [0.1570, 0.0812, 0.0999, 0.2348, 0.0914, 0.1249, 0.3338, 0.0984, 0.1500],
    "yelp": [0.0672, 0.0256, 0.0357, 0.1265, 0.0333, 0.0547, 0.2727, 0.0431, 0.0912],
}


@pytest.mark.parametrize("name", ["amazon", "yelp"])
def test_counts_and_candidate_figures_equal_the_published_ones(name: str) -> None:
    config = load_dataset(REAL / "configs", name)
    truth = ingestion.read_ground_truth(config.raw_path("gt")).table
    lists = ingestion.read_candidates(config.raw_path("candidates")).table.with_columns(rank="candidate_rank")
    ranks = metrics.hit_ranks(lists, truth)
    assert [
        round(value, 4)
        for value in metrics.metrics_at(metrics.place_numbers(ranks["candidate"]), [5, 10, 20]).values()
    ] == (CANDIDATE_ORDER[name])
    coverage = metrics.coverage(lists, truth, ranks, lists["user_id"])
    assert (coverage.users, coverage.ground_truth_in_list) == (COUNTS[name]["users"], COUNTS[name]["in_list"])


@pytest.mark.parametrize("name", ["amazon", "yelp"])
def test_every_row_is_read_and_no_profile_holds_the_ground_truth(name: str) -> None:
    config = load_dataset(REAL / "configs", name)
    truth = ingestion.read_ground_truth(config.raw_path("gt")).table
    personas = ingestion.read_personas(config.raw_path("persona"))
    histories = ingestion.read_histories(config.raw_path("loo_history"), config.data.schema, ground_truth=truth)
    selections = ingestion.read_selections(config.raw_path("selected"), personas.table, ground_truth=truth)
    read = {"interactions": histories.read, "personas": personas.read, "selections": selections.read}
    assert read == {key: COUNTS[name][key] for key in read}
    assert not histories.left_out
    assert not selections.left_out
    assert histories.table.join(truth, on=["user_id", "item_id"], how="semi").is_empty()
    liked = liked_interactions(histories.table, min_rating=3.0)
    pairs = training_pairs(selections.table, histories.table, liked, k=10)
    assert pairs.frame.height + sum(pairs.left_out.values()) == selections.table.height


PUBLIC = REAL.parent / "public_sample"
# Interactions, personas, selections, padding, and rows whose own text names another persona.
PUBLIC_COUNTS = {"amazon": (573, 299, 50, 29, 38), "yelp": (1539, 326, 50, 31, 0)}


@pytest.mark.parametrize("name", ["amazon", "yelp"])
def test_the_public_sample_loads_with_the_published_counts(name: str) -> None:
    folder = PUBLIC / name
    histories = ingestion.read_histories(folder / "3.5_history_loo.jsonl.gz", name)
    personas = ingestion.read_personas(folder / "3.5_persona_with_summary.jsonl.gz")
    selections = ingestion.read_selections(folder / "4_selected_personas.jsonl.gz", personas.table)
    candidates = ingestion.read_candidates(folder / "candidate.jsonl.gz")
    disagreeing = validation.reasoning_agrees_with_the_selection(selections.table.lazy()).bad
    padding = candidates.left_out["padding"]
    counts = (histories.table.height, personas.read, selections.read, padding, disagreeing)
    assert counts == PUBLIC_COUNTS[name]
    without = validation.selected_users_have_histories(selections.table.lazy(), histories.table.lazy())
    assert without.bad == without.total
