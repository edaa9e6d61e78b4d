"""Numbers as a person reads them: the same units wherever one is shown."""

MEGABYTE = 1_000_000
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
    return percent(value) if "share" in name or name == "ceiling" else f"{value:.4g}"
