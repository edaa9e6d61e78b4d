"""Numbers of all workers in memory that they share, and their text for Prometheus."""

import mmap
from bisect import bisect_left
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

# Upper bounds of the latency histogram, in seconds.
BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)
ROUTES = ("rerank", "batch", "page", "other")
STATUSES = (200, 400, 401, 403, 404, 405, 408, 413, 429, 499, 500, 503)
TOTALS = {
    "lists": "Lists reranked or passed through.",
    "candidates": "Candidates of all lists.",
    "unknown_users": "Lists of users that are not in the interaction cache.",
    "unknown_items": "Candidates that are not in the persona cache.",
    "failed_openings": "Versions that could not be opened.",
}
PREFIX = "personarank"


class Counters:
    """Counts by worker; each writes to its own row, and anyone reads the sum."""

    def __init__(self, workers: int) -> None:
        names = [f"{route} {status}" for route in ROUTES for status in STATUSES]
        buckets = [f"{route} {kind}" for route in ROUTES for kind in (*range(len(BOUNDS) + 1), "seconds")]
        self._place = {name: place for place, name in enumerate([*names, *buckets, *TOTALS])}
        shape = (workers, len(self._place))
        # Anonymous and shared: workers that are forked later write into the same pages.
        self._table = np.frombuffer(mmap.mmap(-1, 8 * shape[0] * shape[1]), np.float64).reshape(shape)
        self.use_row(0)

    def use_row(self, worker: int) -> None:
        """Count for this worker from now on."""
        self._row = self._table[worker].data

    def add(self, total: str, amount: float = 1) -> None:
        """Add to one of TOTALS."""
        self._row[self._place[total]] += amount

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        place = self._place.get(f"{route} {status}", self._place[f"{route} 500"])
        self._row[place] += 1
        first = self._place[f"{route} 0"]
        self._row[first + bisect_left(BOUNDS, seconds)] += 1
        self._row[first + len(BOUNDS) + 1] += seconds

    def text(self, versions: dict[str, tuple[str, float]]) -> bytes:
        """All numbers in the text format of Prometheus; `versions` are name and age of each dataset's version."""
        sums = self._table.sum(axis=0)
        lines = [*self._requests(sums), *self._latency(sums), *self._totals(sums), *_version_lines(versions)]
        return "".join(f"{line}\n" for line in lines).encode()

    def _requests(self, sums: npt.NDArray[np.float64]) -> Iterable[str]:
        yield from _head("requests_total", "counter", "Requests by route and status.")
        for route in ROUTES:
            for status in STATUSES:
                if count := sums[self._place[f"{route} {status}"]]:
                    yield f'{PREFIX}_requests_total{{route="{route}",status="{status}"}} {count:.0f}'

    def _latency(self, sums: npt.NDArray[np.float64]) -> Iterable[str]:
        name = f"{PREFIX}_request_seconds"
        yield from _head("request_seconds", "histogram", "Seconds from a request's head to its answer.")
        for route in ROUTES:
            first = self._place[f"{route} 0"]
            counts = np.cumsum(sums[first : first + len(BOUNDS) + 1])
            for bound, count in zip([*map(str, BOUNDS), "+Inf"], counts, strict=True):
                yield f'{name}_bucket{{route="{route}",le="{bound}"}} {count:.0f}'
            yield f'{name}_sum{{route="{route}"}} {sums[first + len(BOUNDS) + 1]:.6f}'
            yield f'{name}_count{{route="{route}"}} {counts[-1]:.0f}'

    def _totals(self, sums: npt.NDArray[np.float64]) -> Iterable[str]:
        for total, told in TOTALS.items():
            yield from _head(f"{total}_total", "counter", told)
            yield f"{PREFIX}_{total}_total {sums[self._place[total]]:.0f}"


def _version_lines(versions: dict[str, tuple[str, float]]) -> Iterable[str]:
    yield from _head("version_info", "gauge", "The version that is served.")
    for dataset, (version, _) in versions.items():
        yield f'{PREFIX}_version_info{{dataset="{dataset}",version="{version}"}} 1'
    yield from _head("version_age_seconds", "gauge", "Seconds since that was published.")
    for dataset, (_, age) in versions.items():
        yield f'{PREFIX}_version_age_seconds{{dataset="{dataset}"}} {age:.0f}'


def _head(name: str, kind: str, told: str) -> Iterable[str]:
    return f"# HELP {PREFIX}_{name} {told}", f"# TYPE {PREFIX}_{name} {kind}"
