"""Numbers as people read them."""

NONE = "\u2013"
"""An undefined number (a dash)."""


def p_value(p: float | None) -> str:
    """Three decimals, few enough not to pretend."""
    if p is None:
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def quantity(value: float | None) -> str:
    """Three digits and a prefix: 1 250 000 -> 1.25 M."""
    if value is None:
        return NONE
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * limit:
            return f"{_three_digits(value / limit)} {prefix}"
    return _three_digits(value)


def size(num_bytes: float | None) -> str:
    """Bytes."""
    shown = quantity(num_bytes)
    return shown if num_bytes is None else shown + ("B" if shown[-1].isalpha() else " B")


def duration(seconds: float | None) -> str:
    """Seconds, minutes or hours."""
    if seconds is None:
        return NONE
    for limit, unit in ((3600, "h"), (60, "min")):
        if seconds >= limit:
            return f"{_three_digits(seconds / limit)} {unit}"
    return f"{_three_digits(seconds)} s"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"
