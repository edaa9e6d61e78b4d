"""Numbers as a person reads them: the same units wherever one is shown."""

from collections.abc import Mapping
from typing import Any

MEGABYTE = 1_000_000
# Behind the name of a number that is in this unit.
PERCENT, MB = " (%)", " (MB)"
# Below this a tenth of a percent would make a share nothing, or half as large again.
SMALL_SHARE = 0.001


def percent(share: float, *, signed: bool = False) -> str:
    """A share or a lift, such as 0.884, as `88.4 %`, or `+88.4 %` where signed; small ones keep two digits."""
    sign = "+" if signed else ""
    if 0 < abs(share) < SMALL_SHARE:
        return f"{100 * share:{sign}.2g} %"
    return f"{share:{sign}.1%}".replace("%", " %")


def megabytes(size: int) -> str:
    """A number of bytes as `92.8 MB`; to a tenth, so that small files are not nothing."""
    return f"{size / MEGABYTE:,.1f} MB" if size >= MEGABYTE / 20 or not size else "< 0.1 MB"


def interval(low: float | None, high: float | None) -> str:
    """Two shares as `[+1.7, +25.3]`, in percent; `[?]` where they are not known."""
    if low is None or high is None:
        return "[?]"
    return f"[{100 * low:+.1f}, {100 * high:+.1f}]"


def in_units(name: str, value: object) -> str:
    """A number of a check, by its name: shares in percent, others with four digits, counts whole."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return percent(value) if _is_share(name) else f"{value:.4g}"


def with_units(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as the UI plots them: those that a person reads in percent or MB are in these, and their names say so.

    Others have six digits.
    """
    return dict(_with_unit(name, value) for name, value in numbers.items())


def told(name: str, value: object) -> str:
    """One of `with_units` in words: `share (%)` and 25.0 as `share 25.0 %`."""
    bare = name.removesuffix(PERCENT)
    return f"{bare} {value} %" if bare != name else f"{name} {in_units(name, value)}"


def _with_unit(name: str, value: Any) -> tuple[str, Any]:
    if isinstance(value, int) and not isinstance(value, bool) and name.endswith("bytes"):
        return f"{name.removesuffix('bytes').removesuffix('_') or 'size'}{MB}", round(value / MEGABYTE, 1)
    if not isinstance(value, float):
        return name, value
    if _is_share(name):
        return name + PERCENT, float(percent(value).removesuffix(" %"))
    return name, float(f"{value:.6g}")


def _is_share(name: str) -> bool:
    return "share" in name or "lift" in name or name == "ceiling"
