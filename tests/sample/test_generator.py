"""The generated dataset is deterministic, coherent, shaped like the real files and a little dirty."""

import gzip
import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from personarank_dagster.sample.generator import PAD, TOPK, SampleDataset
from personarank_dagster.sample.items import number_of_items

REAL_DATA = Path(__file__).parents[3] / "shared" / "real" / "data"
RowsByFile = dict[str, list[dict[str, Any]]]

METHOD_BY_FILE = {
    "2_summary": "summaries",
    "2.5_grouped": "grouped",
    "3.5_history_loo": "histories",
    "3.5_persona_with_summary": "personas",
    "4_selected_personas": "selections",
    "candidate": "candidates",
    "gt": "ground_truths",
    "review": "reviews",
}


@pytest.fixture(scope="module", params=["amazon", "yelp"])
def dataset(request: pytest.FixtureRequest) -> SampleDataset:
    return SampleDataset(request.param, num_users=160, seed=13)


@pytest.fixture(scope="module")
def rows_by_file(dataset: SampleDataset) -> RowsByFile:
    return all_rows(dataset)


def all_rows(dataset: SampleDataset) -> RowsByFile:
    return {name: list(getattr(dataset, method)()) for name, method in METHOD_BY_FILE.items()}


def shape_of(value: Any, path: str = "") -> set[tuple[str, str]]:
    """Every path of a value with its type; keys of an object in their order."""
    if isinstance(value, dict):
        parts = [shape_of(part, f"{path}.{key}") for key, part in value.items()]
        return {(path, ",".join(value))}.union(*parts)
    if isinstance(value, list):
        return {(path, "list")}.union(*(shape_of(part, f"{path}[]") for part in value))
    return {(path, type(value).__name__)}


def shape_of_rows(rows: Iterable[dict[str, Any]]) -> set[tuple[str, str]]:
    return set[tuple[str, str]]().union(*(shape_of(row) for row in rows))


def ground_truth_by_user(dataset: SampleDataset) -> dict[str, str]:
    return {row["user_id"]: row["item_id"] for row in dataset.ground_truths()}


def items_by_user(dataset: SampleDataset) -> dict[str, list[str]]:
    return {row["user_id"]: [one["item_id"] for one in row["reviews"]] for row in dataset.histories()}


@pytest.mark.parametrize(("seed", "is_equal"), [(13, True), (14, False)])
def test_rows_are_equal_exactly_if_the_seed_is(
    dataset: SampleDataset, rows_by_file: RowsByFile, seed: int, is_equal: bool
) -> None:
    other = all_rows(SampleDataset(dataset.schema, num_users=160, seed=seed))
    assert all((other[name] == rows) is is_equal for name, rows in rows_by_file.items())


@pytest.mark.parametrize("name", METHOD_BY_FILE)
def test_rows_have_the_keys_and_types_of_the_real_file(
    dataset: SampleDataset, rows_by_file: RowsByFile, name: str
) -> None:
    real_path = REAL_DATA / dataset.schema / f"{name}.jsonl.gz"
    if not real_path.exists():
        pytest.skip(f"the real files are not here: {real_path}")
    with gzip.open(real_path, "rt", encoding="utf-8") as lines:
        real = shape_of_rows(json.loads(line) for line in lines)
    assert shape_of_rows(rows_by_file[name]) == real


def test_ground_truth_is_never_in_the_history(dataset: SampleDataset) -> None:
    ground_truth = ground_truth_by_user(dataset)
    assert all(ground_truth[user] not in items for user, items in items_by_user(dataset).items())


def test_selections_resolve_to_a_persona_of_their_target(dataset: SampleDataset) -> None:
    personas = {p["unique_persona_id"]: p for row in dataset.personas() for p in row["personas"]}
    for selection in dataset.selections():
        unique_id = f"{selection['target_item_id']}_{selection['selected_persona_id']}"
        assert selection["selected_persona"].items() <= personas[unique_id].items()
        assert selection["selection_reasoning"].endswith(f"Selection: {unique_id[-1]}. {unique_id}")


def test_selections_are_liked_interactions_with_a_liked_one_before(dataset: SampleDataset) -> None:
    reviews = {row["user_id"]: row["reviews"] for row in dataset.histories()}
    for selection in dataset.selections():
        liked = [one["item_id"] for one in reviews[selection["user_id"]] if one["rating"] >= 4]
        assert selection["target_item_id"] in liked[1:]


def test_no_selection_targets_the_ground_truth(dataset: SampleDataset) -> None:
    ground_truth = ground_truth_by_user(dataset)
    assert all(row["target_item_id"] != ground_truth[row["user_id"]] for row in dataset.selections())


def test_candidates_are_distinct_sorted_and_new_to_the_user(dataset: SampleDataset) -> None:
    seen = items_by_user(dataset)
    for row in dataset.candidates():
        items = [result["item_id"] for result in row["results"] if result["item_id"] != PAD]
        scores = [result["score"] for result in row["results"]]
        assert len(scores) == row["topk"] == TOPK
        assert scores == sorted(scores, reverse=True)
        assert len(items) == len(set(items))
        assert not set(items) & set(seen.get(row["user_id"], []))


def test_histories_are_chronological_and_without_repetition(dataset: SampleDataset) -> None:
    for row in dataset.histories():
        times = [one["timestamp"] for one in row["reviews"]]
        assert 4 <= len(times) <= 12
        assert all(a < b for a, b in pairwise(times))
        assert len({one["item_id"] for one in row["reviews"]}) == len(times)


def test_ground_truth_is_among_the_candidates_of_most_users(dataset: SampleDataset) -> None:
    ground_truth = ground_truth_by_user(dataset)
    lists = {row["user_id"]: [result["item_id"] for result in row["results"]] for row in dataset.candidates()}
    covered = sum(ground_truth[user] in items for user, items in lists.items())
    assert 0.7 <= covered / len(lists) <= 0.9


def test_the_dirt_of_real_files_is_present(dataset: SampleDataset) -> None:
    with_personas = {row["item_id"] for row in dataset.personas()}
    candidates = {row["user_id"]: row["results"] for row in dataset.candidates()}
    offered = {result["item_id"] for results in candidates.values() for result in results}
    histories = items_by_user(dataset).keys()
    assert PAD in offered
    assert offered - with_personas - {PAD}
    assert candidates.keys() - histories
    assert histories - candidates.keys()


def test_persona_counts_are_between_two_and_seven(dataset: SampleDataset) -> None:
    assert {len(row["personas"]) for row in dataset.personas()} <= set(range(2, 8))


def test_catalogue_grows_slowly_with_the_users() -> None:
    assert [number_of_items(n) for n in (1, 160, 100_000, 10**8)] == [80, 80, 2008, 20_000]


@pytest.mark.parametrize(("schema", "num_users", "seed"), [("books", 1, 0), ("yelp", 0, 0), ("yelp", 1, -1)])
def test_bad_arguments_are_refused(schema: Any, num_users: int, seed: int) -> None:
    with pytest.raises(ValueError, match=r"sample data: .* must be .* got"):
        SampleDataset(schema, num_users, seed)
