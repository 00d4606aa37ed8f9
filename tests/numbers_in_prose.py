"""The numbers in a text: `notebook_rules.py` holds those of the prose against what the cells print."""

import re
from collections.abc import Iterator

# Numbers in the prose that no cell nearby prints: the number of the notebook, the text around the number, and
# how we know that it's true. Years and versions belong here, and facts that a test checks elsewhere.
# An exception that is no longer needed is a complaint.
EXCEPTIONS: list[tuple[str, str, str]] = [
    ("00", "22 February 2023", "when the article appeared"),
    ("00", "On 50 ordinary photographs it reported 26 things", "data/README.md, 'How good it is'"),
    ("02", "since version 0.29", "torchvision's DeprecationWarning says so"),
    ("07b", "[2014", "when R-CNN appeared"),
    ("07b", "[2015", "when Fast and Faster R-CNN appeared"),
    ("07b", "[2016", "when Feature Pyramid Networks appeared"),
    ("07b", "[2017", "when Mask R-CNN appeared"),
    ("07b", "In 2026", "the year of writing"),
    ("09b", "IoU from 0.1 to 0.5", "NEAR and FAR in segutils/error_types.py"),
    ("09b", "IoU of at most 0.1", "FAR in segutils/error_types.py"),
    ("10a", "Ember, for 2023", "the year of the figures"),
    ("10a", "its release 0.3", "a version of torchvision"),
    (
        "10b",
        "more than two thousand steps",
        "the steps that tests/benchmarks/bench_transfer.py asks for, added up",
    ),
    ("10b", "50 steps", "steps=50 in tests/benchmarks/bench_transfer.py"),
    ("11b", "an IoU of 0.95 with the model's mask", "MIN_IOU in segutils/drafts.py"),
    ("13b", "AP 0.5 where it should be 1", "a symptom, as people report it"),
    ("13b", "| 6 |", "the number of a step"),
    ("13b", "| 7 |", "the number of a step"),
    ("13b", "| 8 |", "the number of a step"),
    ("13b", "| 9 |", "the number of a step"),
    ("13b", "| 10 |", "the number of a step"),
]

_DIGITS = re.compile(
    r"(?<![\w.])(?<![a-zA-Z]-)(?:\d{1,3}(?:,\d{3})+(?!\d)|\d[\d_]*)(?:\.\d+)?(?:e[+-]?\d+)?(?:\s?%|\sper\s?cent\b)?"
)
_SMALL = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_VALUES = {word: value for value, word in enumerate(_SMALL, start=1)}
_VALUES |= {word: 10 * value for value, word in enumerate(_TENS, start=2)}
_POWERS = {"hundred": 100, "thousand": 1000, "million": 1_000_000}
_ANY = "|".join(sorted([*_VALUES, *_POWERS], key=len, reverse=True))  # "seventeen" before "seven"
_WORDS = re.compile(
    rf"(?<![\w-])(?<!\d )(?:a (?=hundred|thousand|million))?(?:{_ANY})(?:(?: and |[ -])(?:{_ANY}))*(?!\w)",
    re.I,
)


def numbers(text: str) -> Iterator[tuple[int, int, str]]:
    """The numbers in a text, each with its start and end: digits, and words for more than twelve.

    A number is returned as a cell would print it: "1,000" as "1000", "83 %" as "83%", "twenty-four" as "24".
    Digits that belong to a name, as in "uint8", "SHA-256", "3D" or "0x0112", are no number; "28x28" are two.
    """
    text = re.sub(r"(?<=\d)(?<!\b0)[x×](?=\d)", " ", text)
    for found in _DIGITS.finditer(text):
        if text[found.end() : found.end() + 1] not in ("D", "x"):
            number = re.sub(r"\s?(%|per\s?cent)$", "%", re.sub(r"[,_]", "", found[0]))
            yield found.start(), found.end(), str(float(number)) if "e" in number else number
    for found in _WORDS.finditer(text):
        if (value := _value(re.findall(_ANY, found[0].lower()))) > 12:
            yield found.start(), found.end(), str(value)


def _value(words: list[str]) -> int:
    """The number that these words mean: ["two", "hundred", "thousand"] is 200 000."""
    whole, part = 0, 0
    for word in words:
        if word == "hundred":
            part = max(part, 1) * 100
        elif word in _POWERS:
            whole, part = whole + max(part, 1) * _POWERS[word], 0
        else:
            part += _VALUES[word]
    return whole + part
