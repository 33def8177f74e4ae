"""What a value may be: ranges of numbers, shares of a whole, times."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Range:
    """Allowed values of a number: `lowest <= value <= highest`, or `lowest < value` when `above`."""

    lowest: float
    highest: float
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.lowest < value if self.above else self.lowest <= value) and value <= self.highest

    def __str__(self) -> str:
        lowest, highest = (f"{int(x):,}" if x == int(x) else f"{x:g}" for x in (self.lowest, self.highest))
        return f"{'above' if self.above else 'at least'} {lowest} and at most {highest}"


Count = Annotated[int, Range(0, 10**15)]
Nonnegative = Annotated[float, Range(0, 1e300)]


class Shares:
    """Allowed shares of a whole for train, valid and test: three numbers that sum to 1, the first above 0."""

    def __contains__(self, shares: Any) -> bool:
        if not (isinstance(shares, list | tuple) and all(type(x) in (int, float) for x in shares)):
            return False
        # 1e-6: nobody writes a third more exactly
        return len(shares) == 3 and min(shares) >= 0 < shares[0] and bool(abs(sum(shares) - 1) <= 1e-6)

    def __str__(self) -> str:
        return "three numbers, none negative, the first above 0, that sum to 1, such as [0.9, 0.05, 0.05]"


class Duration:
    """A time: a number of seconds, or one with its unit, s, m or h."""

    # nine digits, some 100,000 years: with 400 it would be infinite
    PATTERN = re.compile(r"(\d{1,9}(?:\.\d{0,9})?)([smh]?)")

    def __contains__(self, value: object) -> bool:
        matched = self.PATTERN.fullmatch(str(value))  # Hydra reads 90 as a number and 90s as a text
        return matched is not None and float(matched[1]) > 0

    def __str__(self) -> str:
        return "a time such as 90s, 15m or 2h"

    @classmethod
    def seconds(cls, text: str) -> float:
        matched = cls.PATTERN.fullmatch(text)
        assert matched is not None
        return float(matched[1]) * {"s": 1, "": 1, "m": 60, "h": 3600}[matched[2]]


def refuse(group: str, settings: object, usual: Mapping[str, object], why: str) -> None:
    """ValueError unless these keys of a group have their usual values."""
    for key, value in usual.items():
        if (given := getattr(settings, key)) != value:
            raise ValueError(f"{group}.{key} = {given}: {why}; leave it out")
