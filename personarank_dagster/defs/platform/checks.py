"""A check of an asset, declared: what it looks at, what a failure means."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dagster as dg


@dataclass(frozen=True)
class Found:
    """Whether a check's name is true, and the numbers behind it."""

    passed: bool
    numbers: dict[str, Any] = field(default_factory=dict)
    # A check that only warns here, though it is one that can fail: nothing could be looked at.
    severity: dg.AssetCheckSeverity | None = None


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check of one version of an asset; `find` is given a `Published`, and reads also the assets that it `needs`.

    A `blocking` one judges a version before that may become current; it must need nothing but what the asset is made
    from. The others are evaluated after it was published.
    """

    name: str
    asset: str
    find: Callable[[Any], Found]
    description: str | None
    needs: tuple[str, ...] = ()
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
    blocking: bool = False
