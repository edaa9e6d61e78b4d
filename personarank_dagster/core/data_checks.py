"""All checks of the data: of which asset, from which tables, how much may be wrong, what happens if more is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from personarank_dagster.core import validation
from personarank_dagster.core.validation import MAX_TRUNCATED, PREVIOUS, Finding, Limits, Tables

# Names in the metadata of histories.
ASPECTS_READ, HELD_OUT_ASPECTS = "aspects read", "aspects left out: the user's ground truth"


@dataclass(frozen=True)
class DataCheck:
    """A check: its asset, what it finds in which tables, how much may be wrong, and what happens if more is.

    Instead of tables, a check can read what ingestion counted: `counted` is its name in the metadata, `of` that of
    all rows; nothing is found where these were not read. With `drift` it compares the asset's table with that of the
    version before. A `blocking` one judges a version before that becomes current: for findings with which results
    would lie. `remedy` is said where something is wrong.
    """

    name: str
    asset: str
    tables: tuple[str, ...] = ()
    find: Callable[..., Finding] | None = None
    counted: str | None = None
    of: str = "rows_read"
    remedy: str = ""
    drift: bool = False
    blocking: bool = False
    tolerance: float = 0.0

    @property
    def needed(self) -> tuple[str, ...]:
        """Assets without which nothing can be checked."""
        return tuple(dict.fromkeys((self.asset, *self.tables)))

    def finding(self, tables: Tables, details: Mapping[str, Any]) -> Finding:
        """What is found in the tables, or in the details of the asset's manifest."""
        if self.find is not None:
            names = (*self.tables, PREVIOUS) if self.drift else self.tables
            return self.find(*(tables[name] for name in names))
        if self.of not in details:
            return Finding(None, 0, note=f"no {self.of}")
        bad = details.get(str(self.counted), 0)
        return Finding(bad, details[self.of], note=self.remedy if bad else "")

    def passed(self, finding: Finding) -> bool:
        """Whether the finding is within the tolerance."""
        return finding.bad is None or finding.bad <= self.tolerance * finding.total

    @property
    def description(self) -> str:
        """What a person reads beside the name."""
        if self.counted:
            return f"Ingestion counted no row as `{self.counted}`."
        return (self.find.__doc__ or "").strip()


ID_COLUMNS = {
    "personas": ("item_id", "persona_id"),
    "histories": ("user_id", "item_id"),
    "selected_personas": ("user_id", "target_item_id"),
    "candidates": ("user_id", "item_id"),
    "ground_truth": ("user_id", "item_id"),
}


def data_checks(limits: Limits) -> list[DataCheck]:
    """All checks of the data, by asset.

    Coverage below `min_coverage` fails its checks, and a change of the number of rows by more than the share
    `max_drift`.
    """
    uncovered = 1 - limits.min_coverage
    max_drift = limits.max_drift
    return [
        _ids("personas"),
        _check("personas", validation.persona_ids_are_item_and_id, blocking=True),
        _check("personas", validation.persona_texts_are_non_empty),
        _check("personas", validation.items_have_one_to_seven_personas),
        _limited("personas", validation.persona_texts_fit_max_len, limits),
        _drift("personas", validation.rows_are_like_the_previous_version, max_drift),
        _ids("histories"),
        _check("histories", validation.ratings_lie_within_1_and_5, blocking=True),
        _check("histories", validation.timestamps_are_plausible),
        _check("histories", validation.histories_are_chronological, blocking=True),
        _check("histories", validation.interactions_do_not_repeat),
        _check("histories", validation.interactions_have_aspects, tolerance=uncovered),
        _limited("histories", validation.interaction_texts_fit_max_len, limits),
        DataCheck("histories_hold_no_ground_truth", "histories", counted="left out: the user's ground truth"),
        DataCheck(
            "aspects_hold_no_ground_truth",
            "histories",
            counted=HELD_OUT_ASPECTS,
            of=ASPECTS_READ,
            remedy="personas written from these reviews know the answer; write them without",
        ),
        _drift("histories", validation.rows_are_like_the_previous_version, max_drift),
        _drift("histories", validation.mean_rating_is_like_the_previous_version),
        _ids("selected_personas"),
        _check("selected_personas", validation.selections_resolve_to_a_persona),
        _check("selected_personas", validation.selections_do_not_repeat),
        DataCheck(
            "selections_target_no_ground_truth",
            "selected_personas",
            counted="left out: the target is the user's ground truth",
        ),
        _check("selected_personas", validation.selected_names_equal_the_catalogue, "personas"),
        _check("selected_personas", validation.reasoning_agrees_with_the_selection),
        _check("selected_personas", validation.selected_users_have_histories, "histories", tolerance=uncovered),
        _drift("selected_personas", validation.rows_are_like_the_previous_version, max_drift),
        _ids("candidates"),
        _check("candidates", validation.candidate_lists_are_sorted),
        _check("candidates", validation.candidate_scores_have_no_outlier),
        DataCheck("candidate_lists_have_no_repeats", "candidates", counted="left out: repeated candidate"),
        DataCheck("candidate_users_have_one_list", "candidates", counted="merged: second list of its user"),
        _check("candidates", validation.candidates_are_new_to_their_user, "histories"),
        _check("candidates", validation.candidates_have_personas, "personas", tolerance=uncovered),
        _check("candidates", validation.candidate_users_have_histories, "histories", tolerance=uncovered),
        _drift("candidates", validation.rows_are_like_the_previous_version, max_drift),
        _ids("ground_truth"),
        _drift("ground_truth", validation.rows_are_like_the_previous_version, max_drift),
        _check("ground_truth", validation.ground_truth_has_a_ceiling, "candidates"),
    ]


def _check(
    asset: str, find: Callable[..., Finding], *more: str, blocking: bool = False, tolerance: float = 0.0
) -> DataCheck:
    return DataCheck(find.__name__, asset, (asset, *more), find, blocking=blocking, tolerance=tolerance)


def _limited(asset: str, find: Callable[[pl.LazyFrame, Limits], Finding], limits: Limits) -> DataCheck:
    def limited(table: pl.LazyFrame) -> Finding:
        return find(table, limits)

    limited.__doc__ = find.__doc__
    return DataCheck(find.__name__, asset, (asset,), limited, tolerance=MAX_TRUNCATED)


def _drift(asset: str, find: Callable[..., Finding], tolerance: float = 0.0) -> DataCheck:
    name = find.__name__.replace("rows", f"rows_of_{asset}")
    return DataCheck(name, asset, (asset,), find, drift=True, tolerance=tolerance)


def _ids(asset: str) -> DataCheck:
    def find(table: pl.LazyFrame) -> Finding:
        """No id is null, blank or wrapped in white space."""
        return validation.ids_are_non_empty(table, ID_COLUMNS[asset])

    return DataCheck(f"ids_of_{asset}_are_non_empty", asset, (asset,), find, blocking=True)
