"""Numbers, durations and times in the report's format; unknown values are an en dash."""

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal

from markupsafe import Markup

from shardmark.records.score import Metric

from .estimates import half_width, interval
from .text import name_parts

DASH = "–"
MINUS = "\N{MINUS SIGN}"


FOUR_DIGITS = Context(prec=4, rounding=ROUND_HALF_UP)


def number(value: float | None, percent: bool = False) -> str:
    """Format a value: a fraction as percent with one decimal (no sign), any other with 4 digits.

    Pages format numbers likewise (`figure` of templates/text.js): of two equally near, the larger is taken.
    """
    if value is None:
        return DASH
    if percent:
        return _fixed(100 * value, 1)
    found = FOUR_DIGITS.create_decimal(value).normalize()
    text = f"{found:f}" if -6 <= found.adjusted() <= 20 else str(found).lower()
    return text.replace("-", MINUS) if found else "0"


def p_value(value: float | None) -> str:
    """Format a p-value, without insignificant digits."""
    return DASH if value is None else "< 0.001" if value < 0.001 else _fixed(value, 3)


def _fixed(value: float, digits: int) -> str:
    return f"{Decimal(value or 0.0).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)}".replace("-", MINUS)


def figure(metric: Metric | None) -> str:
    """Format a metric's value in its unit."""
    return number(metric.value, metric.percent) if metric else DASH


def margin(metric: Metric | None) -> str:
    """Format the half width of a metric's 95 % interval in its unit; of what is no fraction, two digits."""
    half = half_width(metric) if metric else None
    if metric is None or half is None or metric.percent or half >= 10:
        return number(half, metric is not None and metric.percent)
    return f"{half:.2g}"


def span(metric: Metric | None) -> str:
    """Format a metric's 95 % interval, both ends, in its unit."""
    ends = interval(metric) if metric else None
    if metric is None or ends is None:
        return DASH
    return f"{number(ends[0], metric.percent)} to {number(ends[1], metric.percent)}"


def described(metric: Metric | None) -> str:
    """Describe an estimate in words, for titles and screen readers."""
    if metric is None:
        return "not run"
    unit = " %" if metric.percent else ""
    ends = "" if interval(metric) is None else f" (95 % interval {span(metric)})"
    return f"{figure(metric)}{unit}{ends}, n = {count(metric.n)}"


def count(value: int | None) -> str:
    """Format a whole number with thin spaces between the thousands."""
    return DASH if value is None else f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def plural(value: int, noun: str) -> str:
    """Format a count with its noun: "1 model", "2 models"."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """Format a duration given in seconds, in the units that suit its size."""
    if seconds is None:
        return DASH
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def rate(value: float | None) -> str:
    """Format a rate with three significant digits, without an exponent."""
    if value is None:
        return DASH
    return count(round(value)) if value >= 100 else f"{value:#.3g}".rstrip(".")


def moment(iso: str | None) -> str:
    """Format an ISO 8601 time for reading, in UTC; any other text is returned as it is."""
    parsed = _parsed(iso)
    return f"{parsed.day} {parsed:%B %Y, %H:%M} UTC" if parsed else iso or DASH


def stamp(iso: str | None) -> str:
    """Format an ISO 8601 time for a table, in UTC; any other text is returned as it is."""
    parsed = _parsed(iso)
    return f"{parsed:%Y-%m-%d %H:%M:%S}" if parsed else iso or DASH


def _parsed(iso: str | None) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(iso or "")
    except ValueError:
        return None
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed


def breakable(name: str) -> Markup:
    """Let a name break after its separators, so that a narrow column does not break it within a word."""
    return Markup("<wbr>").join(name_parts(name))


def short(digest: str | None, length: int = 10) -> str:
    """Shorten a digest for display; the page has all of it in a title."""
    return digest[:length] if digest else DASH


FILTERS = {
    function.__name__: function
    for function in (
        *(number, p_value, figure, margin, span, described, count, plural),
        *(duration, rate, moment, stamp, short, breakable),
    )
}
