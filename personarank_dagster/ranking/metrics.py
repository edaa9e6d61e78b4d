"""HIT, MRR and NDCG of ranked lists, for all users and for the scenarios, with intervals.

Everything is computed from how often each place occurs: the same numbers as from one user after the other, in time
that does not depend on the cut-offs, and a bootstrap in time that does not depend on the users.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.errors import InputError
from personarank_dagster.core.profiles import IntArray

METRIC_NAMES = ("HIT", "MRR", "NDCG")

# Users by activity and ground-truth items by popularity: the top and bottom fifth, thresholds included.
TOP_QUANTILE, BOTTOM_QUANTILE = 0.8, 0.2

# Resampled sets of users, and the share of them that an interval holds.
RESAMPLES, CONFIDENCE, SEED = 2_000, 0.95, 13

Values = npt.NDArray[np.float64]
# Orders of the same lists by name: `candidate`, `reranked` and the controls; places from 1, 0 where not listed.
Places = Mapping[str, IntArray]
# Values (users,) of other metrics, by "RECALL@10" and the order.
ValuesByOrder = Mapping[str, Mapping[str, Values]]


@dataclass(frozen=True)
class Coverage:
    """Users that count, and those that cannot be measured, by reason."""

    users: int
    users_without_candidates: int
    users_without_ground_truth: int
    users_without_profile: int
    ground_truth_in_list: int


def hit_ranks(reranked: pl.DataFrame | pl.LazyFrame, ground_truth: pl.DataFrame) -> pl.DataFrame:
    """Places of the best ground-truth item: user_id, candidate, reranked (from 1, null where it is not listed).

    One row per user that has both a candidate list and a ground truth, in the order of the lists. Raises InputError
    if there is none.
    """
    rows, truth = reranked.lazy(), ground_truth.lazy().unique()
    hits = (
        rows.join(truth, on=["user_id", "item_id"], how="semi")
        .group_by("user_id")
        .agg(candidate=pl.col("candidate_rank").min(), reranked=pl.col("rank").min())
        .collect(engine="streaming")
    )
    listed = rows.filter(pl.col("rank") == 1).select("user_id").collect(engine="streaming")
    users = listed.join(ground_truth, on="user_id", how="semi", maintain_order="left")
    if users.is_empty():
        raise InputError(
            f"no user has both a candidate list and a ground truth, of {listed.height} with a list and "
            f"{ground_truth['user_id'].n_unique()} with a ground truth; do both files name users in the same way?"
        )
    return users.join(hits, on="user_id", how="left", maintain_order="left")


def coverage(
    reranked: pl.DataFrame | pl.LazyFrame, ground_truth: pl.DataFrame, ranks: pl.DataFrame, profiles: pl.Series
) -> Coverage:
    """Count the users behind `hit_ranks` and those that it left out; `profiles` are the users who have one."""
    lists = int(reranked.lazy().select((pl.col("rank") == 1).sum()).collect(engine="streaming").item())
    return Coverage(
        users=ranks.height,
        users_without_candidates=ground_truth["user_id"].n_unique() - ranks.height,
        users_without_ground_truth=lists - ranks.height,
        users_without_profile=ranks.height - int(ranks["user_id"].is_in(profiles.implode()).sum()),
        ground_truth_in_list=ranks["reranked"].count(),
    )


def place_numbers(ranks: pl.Series) -> IntArray:
    """Places as numbers; 0 where not listed."""
    return ranks.fill_null(0).cast(pl.Int64).to_numpy()


def places_by_order(ranks: pl.DataFrame, controls: Sequence[pl.DataFrame]) -> dict[str, IntArray]:
    """Places of every order, those of the controls beside those of `hit_ranks` by the name of the user."""
    joined = ranks
    for control in controls:
        joined = joined.join(control, on="user_id", how="left", maintain_order="left", validate="1:1")
    return {order: place_numbers(joined[order]) for order in joined.columns if order != "user_id"}


def metrics_at(places: IntArray, ks: Sequence[int]) -> dict[str, float]:
    """HIT@k, MRR@k and NDCG@k, averaged over users.

    The first ground-truth item at place r <= k gives HIT 1, MRR 1 / r and NDCG 1 / log2(r + 1); else 0.
    `places` holds r, 0 where it is not listed. Without users every metric is NaN.
    """
    if not len(places):
        return dict.fromkeys(_keys(ks), float("nan"))
    counts = np.bincount(_within(places, max(ks)), minlength=max(ks) + 1)
    return dict(zip(_keys(ks), (_gains(ks) @ counts / len(places)).tolist(), strict=True))


# Users whose metric differs between two orders: with fewer, all of them on one side say nothing at CONFIDENCE, since
# six coins fall alike once in 32 times, and five once in 16.
MIN_DIFFERING = 6


@dataclass(frozen=True)
class Lift:
    """By how much one order is better than another, relatively, and its interval; null where the other has 0.

    `p` is the chance of a lift as far from 0, on either side, where both orders are alike. The interval is null where
    some users differ, but fewer than MIN_DIFFERING.
    """

    lift: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def lifts(before: IntArray, after: IntArray, ks: Sequence[int], *, resamples: int = RESAMPLES) -> dict[str, Lift]:
    """Lift of every metric, after / before - 1, with the 95 % interval of a paired bootstrap over users.

    Users with equal places are one and the same for the means, so a resample draws how many of each kind it has.
    """
    width, num_users = max(ks) + 1, len(before)
    if not num_users:
        return dict.fromkeys(_keys(ks), Lift())
    pairs, counts = np.unique(_within(before, max(ks)) * width + _within(after, max(ks)), return_counts=True)
    drawn = _resampled(counts, resamples)
    old, new = np.divmod(pairs, width)
    return {key: _lift(gain[old], gain[new], counts, drawn) for key, gain in zip(_keys(ks), _gains(ks), strict=True)}


def lift_of_values(before: Values, after: Values, *, resamples: int = RESAMPLES) -> Lift:
    """`lifts` of one metric, by its value for each user."""
    if not len(before):
        return Lift()
    pairs, counts = np.unique(np.stack([before, after]), axis=1, return_counts=True)
    return _lift(pairs[0], pairs[1], counts, _resampled(counts, resamples))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction: what each chance becomes where all these tests are made together; null stays so."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[place] = highest
    return corrected


def compare(places: Places, ks: Sequence[int], *, scenario: str) -> pl.DataFrame:
    """All orders of the same users' lists side by side; columns of `schemas.METRICS`.

    lift is that of `reranked` over `candidate`; personal_lift that over `shuffled`, the same reranking with the
    profiles of other users; persona_lift that over `without_personas`. An order that is not given is null.
    """
    before, after = places["candidate"], places["reranked"]
    by_order = {name: metrics_at(of_order, ks) for name, of_order in places.items()}
    gained = lifts(before, after, ks)
    personal = lifts(places["shuffled"], after, ks) if "shuffled" in places else {}
    by_personas = lifts(places["without_personas"], after, ks) if "without_personas" in places else {}
    listed = (before > 0) & (after > 0)
    shared = {
        "scenario": scenario,
        "users": len(before),
        "ceiling": float((after > 0).mean()) if len(after) else None,
        "moved_up": int((listed & (after < before)).sum()),
        "moved_down": int((listed & (after > before)).sum()),
        "unmoved": int((after == before).sum()),
    }
    rows = []
    for key in _keys(ks):
        metric, k = key.split("@")
        lift, own, persona = gained[key], personal.get(key, Lift()), by_personas.get(key, Lift())
        row = {"metric": metric, "k": int(k), **{name: values[key] for name, values in by_order.items()}}
        row |= {"lift": lift.lift, "lift_low": lift.low, "lift_high": lift.high, "lift_p": lift.p}
        row |= {"personal_lift": own.lift, "personal_low": own.low, "personal_high": own.high}
        row |= {"persona_lift": persona.lift, "persona_low": persona.low, "persona_high": persona.high}
        rows.append(shared | row)
    return pl.DataFrame(rows, schema=schemas.METRICS)


def compare_scenarios(
    users: pl.Series,
    places: Places,
    scenarios: Mapping[str, pl.Series],
    ks: Sequence[int],
    values: ValuesByOrder = MappingProxyType({}),
) -> pl.DataFrame:
    """`compare` for all users and for each scenario; and the same of `values` (users,) of other metrics.

    lift_p is corrected for all metrics of the scenario.
    """
    parts = []
    everyone = np.ones(len(users), np.bool_)
    insides = {name: users.is_in(members.implode()).to_numpy() for name, members in scenarios.items()}
    for name, inside in ({"all": everyone} | insides).items():
        table = compare({order: found[inside] for order, found in places.items()}, ks, scenario=name)
        own = {key: {order: found[inside] for order, found in orders.items()} for key, orders in values.items()}
        both = pl.concat([table, compare_values(own, table)])
        parts.append(both.with_columns(lift_p=pl.Series(holm(both["lift_p"].to_list()), dtype=pl.Float64)))
    return pl.concat(parts)


def compare_values(values: ValuesByOrder, beside: pl.DataFrame) -> pl.DataFrame:
    """Rows of more metrics of the users of a table of `compare`, by their value for each user."""
    shared = beside.row(0, named=True)
    kept = {name: shared[name] for name in ("scenario", "users", "ceiling", "moved_up", "moved_down", "unmoved")}
    rows = []
    for key, orders in values.items():
        metric, k = key.split("@")
        lift = lift_of_values(orders["candidate"], orders["reranked"])
        means = {order: float(found.mean()) if len(found) else float("nan") for order, found in orders.items()}
        own = {"lift": lift.lift, "lift_low": lift.low, "lift_high": lift.high, "lift_p": lift.p}
        rows.append(kept | {"metric": metric, "k": int(k)} | means | own)
    return pl.DataFrame(rows, schema=schemas.METRICS)


def with_list_metrics(table: pl.DataFrame, by_order: Mapping[str, Mapping[str, float | None]]) -> pl.DataFrame:
    """The table with metrics of all lists, such as `list_metrics` gives them, by order; none of them is a gain."""
    rows = []
    for key in by_order["candidate"]:
        metric, k = key.split("@")
        values = {order: found[key] for order, found in by_order.items()}
        rows.append({"scenario": "all", "users": table["users"][0], "metric": metric, "k": int(k)} | values)
    return pl.concat([table, pl.DataFrame(rows, schema=schemas.METRICS)])


def scenario_users(interactions: pl.DataFrame, ground_truth: pl.DataFrame) -> dict[str, pl.Series]:
    """Users of each scenario: warm and cold by their number of interactions, head and tail by their item's.

    Thresholds are the 80th and 20th percentile over all users or items of `interactions`, both inclusive.
    A user with several ground-truth items belongs where the first one does.
    """
    activity = interactions.group_by("user_id").len("count")
    popularity = interactions.group_by("item_id").len("count")
    targets = ground_truth.unique("user_id", keep="first", maintain_order=True)
    return {
        "warm users": _top(activity)["user_id"],
        "cold users": _bottom(activity)["user_id"],
        "head items": targets.join(_top(popularity), on="item_id", how="semi")["user_id"],
        "tail items": targets.join(_bottom(popularity), on="item_id", how="semi")["user_id"],
    }


def _keys(ks: Sequence[int]) -> list[str]:
    return [f"{name}@{k}" for k in ks for name in METRIC_NAMES]


def _gains(ks: Sequence[int]) -> Values:
    """Gain (metrics, places) of each place from 0, which is none, to the largest cut-off."""
    places = np.arange(1, max(ks) + 1)
    by_name = {"HIT": np.ones(len(places)), "MRR": 1 / places, "NDCG": 1 / np.log2(places + 1)}
    rows = [np.append(0.0, np.where(places <= k, by_name[name], 0.0)) for k in ks for name in METRIC_NAMES]
    return np.stack(rows)


def _within(places: IntArray, k: int) -> IntArray:
    return np.where(places <= k, places, 0)


def _resampled(counts: IntArray, resamples: int) -> Values:
    """How many users of each kind each resample has."""
    num_users = counts.sum()
    return np.random.default_rng(SEED).multinomial(num_users, counts / num_users, size=resamples).astype(np.float64)


def _lift(before: Values, after: Values, counts: IntArray, drawn: Values) -> Lift:
    """Lift of values (kinds,) by how many users are of each kind, and how many `drawn` (resamples, kinds)."""
    if not before @ counts > 0:
        return Lift()
    lift, differing = float(after @ counts / (before @ counts) - 1), int(counts[before != after].sum())
    gained = drawn @ (after - before)
    one_side = min((gained <= 0).sum(), (gained >= 0).sum())
    # As many coins that fall alike; resamples of a few users would say less.
    p = min(1.0, max(2 * (one_side + 1) / (len(gained) + 1), 2.0 ** (1 - differing)))
    if 0 < differing < MIN_DIFFERING:
        return Lift(lift, p=p)
    sampled = drawn @ before
    usable = sampled > 0
    ends = np.quantile(gained[usable] / sampled[usable], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Lift(lift, float(ends[0]), float(ends[1]), p)


def _top(counts: pl.DataFrame) -> pl.DataFrame:
    return counts.filter(pl.col("count") >= pl.col("count").quantile(TOP_QUANTILE, "linear"))


def _bottom(counts: pl.DataFrame) -> pl.DataFrame:
    return counts.filter(pl.col("count") <= pl.col("count").quantile(BOTTOM_QUANTILE, "linear"))


def middle_k(table: pl.DataFrame) -> int:
    """The cut-off that is shown where one must do: the one in the middle."""
    ks = table["k"].unique().sort()
    return int(ks[len(ks) // 2])
