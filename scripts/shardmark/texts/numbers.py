"""Numbers as people and models write them: `-$1,234.50`, `1 234 567`, `３６`, `٤٢`, `\\frac{3}{4}`, `3 × 10^8`.

Found numbers have a plain spelling: ASCII digits, a point before decimals, no separators, `e` before an exponent, `/`
in a fraction. They are texts, so that no digit is lost.
"""

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple

Thousands = Literal[",", "any"]

SPACES = "\u00a0\u2006\u2007\u2008\u2009\u202f"
"No-break and thin spaces, which separate thousands."
THIN = "\u202f"
FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
PLAIN = {
    **FULL_WIDTH,
    **{ord(space): THIN for space in SPACES},
    ord("−"): "-",
    ord("﹣"): "-",
    ord("٫"): ".",
    ord("٬"): ",",
    ord("⁄"): "/",
    ord("∕"): "/",
    ord("٪"): "%",
}
VULGAR = re.compile("(\\d)([¼-¾⅐-⅞])")
SUPERSCRIPT = re.compile("[⁰¹²³⁴-⁹⁺⁻]{1,9}")
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
RAISED = {digit: sign for sign, digit in SUPERSCRIPTS.items()}
LARGEST_EXPONENT = 9999

LATEX = (
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\!"), ""),
    (re.compile(r"(?<=\d)(?:\\[, ]|~)(?=\d{3})"), THIN),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"(?<=\d)\s?\\[dt]?frac\b"), r" \\frac"),
    (re.compile(r"\\[dt]?frac\s?\{\s?(-?\d{1,30})\s?\}\s?\{\s?(\d{1,30})\s?\}"), r"\1/\2"),
    (re.compile(r"\\[dt]?frac\s?(\d)(\d)(?!\d)"), r"\1/\2"),
)
POWER = r"(?:\^|\*\*(?!\s))\s?[{(]?([-+]?\d{1,9})(?![\d*])[})]?"
POWERS = (
    (re.compile(r"(?<=\d)\s{0,2}(?:[×x*·⋅]|\\times|\\cdot)\s{0,2}10\s?" + POWER), r"e\1"),
    (re.compile(r"(?<![\w.,])10\s?" + POWER), r"1e\1"),
    (re.compile(r"_\{\d{1,9}\}"), " "),
)
WHOLE_POWER = re.compile(r"(?<![\w.,^])(\d{1,6})\s?(?:\^\s?[{(]?|\*\*(?=-?\d))(-?\d{1,2})(?![\d*]|\.\d)[})]?")
OTHER_POWER = re.compile(r"(?<=[\w)}])" + POWER)

LEFT = (
    r"(?:(?<![A-Za-z0-9])(?<![A-Za-z0-9]_)|(?<=\bUSD)|(?<=\bEUR)|(?<=\bGBP)|(?<=\bCNY)|(?<=\bRMB)|(?<=\bRs))(?<!\d\.)"
)
END = r"(?![.,]?\d)"
GROUPS = (
    r"(?<!\d,)\d{1,3}(?:,\d{3})+(?:\.\d+)?" + END,
    r"(?<!\d,)\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?" + END,
    r"\d{1,3}(?:_\d{3})+(?![_\d])",
    r"\d{1,3}(?:['’]\d{3})+(?:\.\d+)?" + END,
    rf"(?<!\d[ {THIN},])[1-9]\d{{0,2}}(?:[ {THIN}]\d{{3}})+(?:[.,]\d+)?(?!\d)",
)
POINTS = (
    r"\d{1,3}(?:\.\d{3}){2,}(?:,\d+)?" + END,
    r"\d{1,3}(?:\.\d{3})+,\d+" + END,
)
ZERO_COMMA = r"(?<![(\[{])(?<!\d,)0,\d+" + END
FRACTION = r"(?<!\d/)(?:(?<!\d[ .,])\d{1,3} )?\d{1,30}/[1-9]\d{0,29}(?![\d/]|[.,]\d)"
SIMPLE = r"\d+(?:\.\d+)?(?:[eE][-+]?\d+(?![A-Za-z0-9]))?(?!\d|\.\d)|\d+(?!\.?\d)"
BARE_DECIMALS = r"(?<![\w.)])\.\d+(?:[eE][-+]?\d+(?![A-Za-z0-9]))?(?!\.?\d)"
ANY_COMMA = r"(?<![(\[{])(?<!\d,)\d+,(?:\d\d?|\d{4,})" + END
ANY_POINT = r"[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?" + END

SPACED_MINUS = re.compile(
    r"(?:[=:≈(]|\b(?:is|are|was|be|equals|es|est|ist|è|é|jest)|是|为|為|は)\s{0,2}[-–]\s$", re.IGNORECASE
)
MAGNITUDES = {
    **{"dozen": 12, "hundred": 10**2, "thousand": 10**3, "lakh": 10**5, "million": 10**6, "crore": 10**7},
    **{"billion": 10**9, "trillion": 10**12},
    **{"百": 10**2, "千": 10**3, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8},
}
MAGNITUDE = re.compile(r"\s*(?:(dozen|hundred|thousand|lakh|million|crore|billion|trillion)s?\b|([百千万萬亿億]))")
EITHER = re.compile(r"(?:[kmb]|bn|mio|mrd)\b(?!\s?/)")
"Either a magnitude or a unit: `5 m` is five metres or five millions."
PERCENT = {"%", "percent", "per cent", "pct", "prozent", "por ciento", "por cento", "pour cent", "per cento"}
CURRENCIES = {
    **dict.fromkeys(("$", "usd", "dollar", "dollars", "us$", "hk$", "nt$", "a$", "c$", "s$"), "$"),
    **dict.fromkeys(("€", "eur", "euro", "euros"), "€"),
    **dict.fromkeys(("£", "gbp"), "£"),
    **dict.fromkeys(("¥", "cny", "rmb", "jpy", "yuan", "yen", "元", "円"), "¥"),
    **dict.fromkeys(("₹", "inr", "rs", "rupee", "rupees"), "₹"),
    **dict.fromkeys(("¢", "cent", "cents"), "¢"),
    **{"₩": "₩", "krw": "₩", "chf": "chf"},
}
"Signs, codes and names of currencies."


class Amount(NamedTuple):
    """A number with its unit and currency."""

    value: Fraction
    unit: str
    "`%` for all percentages; empty without a unit."
    currency: str = ""

    def is_close(self, other: "Amount", tolerance: Fraction) -> bool:
        """Whether two amounts are equal within a tolerance.

        Units and currencies are compared if both have one, and 50% equals 50 and 0.5. `5 m` only equals what has the
        same unit, since it may be five millions.
        """
        units, currencies = {self.unit, other.unit}, {self.currency, other.currency}
        if (len(units) > 1 and ("" not in units or any(map(EITHER.match, units)))) or len(currencies - {""}) > 1:
            return False
        shares = [
            {each.value, each.value / 100} if each.unit == "%" and len(units) > 1 else {each.value}
            for each in (self, other)
        ]
        return any(abs(one - two) <= tolerance for one in shares[0] for two in shares[1])


def numbers(text: str, thousands: Thousands = ",") -> Iterator[str]:
    """The numbers of a text, in order.

    `1,234`, `1,00,000`, `1 234`, `1'234`, `1_234`, `1.234.567` and `1.234,5` have separators; a list such as `1,2,3`
    has three numbers. With thousands `any`, a point or comma before exactly three digits separates thousands, and a
    comma before any other number of digits is a decimal comma: `1.250` is 1250 and `2,5` is 2.5. Exponents of other
    bases than ten (`cm^2`), digits of a word (`CO2`) and versions (`1.2.3`) are not numbers.
    """
    plain = _plain(text)
    for match in _pattern(thousands).finditer(plain):
        sign = "-" if _is_negative(plain, match.start()) else ""
        yield sign + _spelling(match.group(), thousands)


def amount(text: str) -> Amount | None:
    """The single number that a text consists of, perhaps with a currency or a unit; None for any other text.

    `1.5 million` is 1500000, and the exponent in `cm^2` is a part of the unit.
    """
    plain = _plain(text, powers=True).strip().rstrip(".")
    found = list(_pattern(",").finditer(plain)) if len(plain) <= 1000 and "_" not in plain else []
    if len(found) != 1:
        return None
    before, after = plain[: found[0].start()], plain[found[0].end() :].casefold()
    sign = "-" if _is_negative(plain, found[0].start()) else ""
    value = exact(sign + _spelling(found[0].group(), ","))
    if value is None or after[:1].isdigit():  # the exponent of something that has no value here
        return None
    while magnitude := MAGNITUDE.match(after):
        value *= MAGNITUDES[magnitude[1] or magnitude[2]]
        after = after[magnitude.end() :]
    before = "".join(c for c in before.casefold() if not c.isspace() and c not in "+-–≈~").rstrip(".")
    unit = " ".join(after.strip(" .,;" + THIN).split())
    while before.endswith("$") and unit.endswith("$"):  # LaTeX's
        before, unit = before[:-1], unit[:-1].strip()
    if before in PERCENT and not unit:
        before, unit = "", before
    if before not in {"", *CURRENCIES} and not (before[:-1].isalpha() and _is_currency(before[-1])):
        return None
    if len(unit) > 30 or any(c.isdecimal() for c in unit):
        return None
    currency = next((CURRENCIES.get(name, name) for name in (before, unit) if _is_currency(name)), "")
    unit = "%" if unit in PERCENT else "" if _is_currency(unit) else unit
    return Amount(value, unit, currency)


def _is_currency(name: str) -> bool:
    return name in CURRENCIES or (len(name) == 1 and unicodedata.category(name) == "Sc")


def exact(number: str) -> Fraction | None:
    """The value of a number; None if it is beyond 10^9999 or has thousands of digits."""
    exponent = number.lower().partition("e")[2]
    try:
        return None if abs(int(exponent or 0)) > LARGEST_EXPONENT else Fraction(number)
    except (ValueError, ZeroDivisionError):
        return None


def _plain(text: str, powers: bool = False) -> str:
    """The text with the notations that `numbers` reads; `powers`: other exponents than ten's are not dropped."""
    if not text.isascii():
        text = SUPERSCRIPT.sub(lambda found: "^" + found.group().translate(SUPERSCRIPTS), VULGAR.sub(r"\1 \2", text))
        text = "".join(map(in_ascii, text))
    for pattern, replacement in (*LATEX, *POWERS):
        text = pattern.sub(replacement, text)
    return OTHER_POWER.sub(_raised, WHOLE_POWER.sub(_power, text)) if powers else OTHER_POWER.sub(" ", text)


def _power(found: re.Match[str]) -> str:
    """The value of a power such as 2^10, or 1/1024 for 2^-10."""
    value = int(found[1]) ** abs(int(found[2]))
    return str(value) if found[2][0] != "-" else f"1/{value}"


def _raised(exponent: re.Match[str]) -> str:
    return exponent[1].translate(RAISED)


@lru_cache(4096)
def in_ascii(character: str) -> str:
    """The character, or its equivalent in ASCII."""
    if (digit := unicodedata.decimal(character, None)) is not None:
        return str(digit)
    category = unicodedata.category(character)
    if category == "Cf":  # invisible, such as a soft hyphen or a mark of direction
        return ""
    if category == "No" and "⁄" in (name := unicodedata.normalize("NFKC", character)):
        return name.replace("⁄", "/")
    return character.translate(PLAIN)


@lru_cache
def _pattern(thousands: Thousands) -> re.Pattern[str]:
    by_language = (ANY_POINT, ANY_COMMA) if thousands == "any" else ()
    forms = (FRACTION, *by_language, *GROUPS, *POINTS, ZERO_COMMA, SIMPLE)
    return re.compile(f"{LEFT}(?:{'|'.join(forms)})|{BARE_DECIMALS}")


def _spelling(number: str, thousands: Thousands) -> str:
    if "/" in number:
        whole, _, fraction = number.rpartition(" ")
        top, bottom = fraction.split("/")
        return f"{int(whole) * int(bottom) + int(top)}/{bottom}" if whole else fraction
    number = re.sub(rf"[_'’ {THIN}]", "", number)
    point, comma = number.rfind("."), number.rfind(",")
    if comma > point and (point >= 0 or number.startswith("0,") or not re.fullmatch(r"[\d,]+,\d{3}", number)):
        return number.replace(".", "").replace(",", ".")  # a decimal comma
    if number.count(".") > 1 or (thousands == "any" and re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", number)):
        return number.replace(".", "")
    number = number.replace(",", "")
    return "0" + number if number.startswith(".") else number


def _is_negative(text: str, start: int) -> bool:
    """Whether a minus belongs to the number at `start`; in `5-7`, `A-1` and a list's `- 1` it does not."""
    while start and (text[start - 1] == "+" or unicodedata.category(text[start - 1]) == "Sc"):
        start -= 1
    if start and text[start - 1] in "-–":
        return start == 1 or not (text[start - 2].isalnum() or text[start - 2] in ")]}%-–_")
    return bool(SPACED_MINUS.search(text[max(0, start - 20) : start]))
