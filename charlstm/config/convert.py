"""Plain nested dictionaries -> dataclasses such as those of `settings.py`, strictly: every problem is found
and named, and a wrong key is answered with the nearest right one."""

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from charlstm.config.values import Duration, Range

T = TypeVar("T")

FINITE = Range(-1e300, 1e300)

# of a dataclass; to find them out takes as long as all the rest of a conversion
_hints: Any = functools.cache(functools.partial(get_type_hints, include_extras=True))


class RequestError(ValueError):
    """What was asked for cannot be done; `problems` has one line for each reason."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def convert(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build the dataclass `cls` from nested dictionaries with exactly its keys; those with a default may be
    missing. Raises RequestError with every unknown, missing, mistyped and out-of-range key."""
    problems: list[str] = []
    converted = _dataclass(cls, values, "", keys_of(cls), problems)
    if problems:
        raise RequestError(problems)
    return typing.cast(T, converted)


def keys_of(cls: type[Any], prefix: str = "") -> dict[str, Any]:
    """Every dotted key that a settings dataclass takes, with its type."""
    keys: dict[str, Any] = {}
    for name, hint in _hints(cls).items():
        if dataclasses.is_dataclass(hint):
            keys |= keys_of(typing.cast(type[Any], hint), f"{prefix}{name}.")
        else:
            keys[prefix + name] = hint
    return keys


def values_of(settings: Any) -> dict[str, Any]:
    """The values of settings by dotted key, as JSON knows them."""
    values = {key: attrgetter(key)(settings) for key in keys_of(type(settings))}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def unknown_key(key: str, known: Iterable[str]) -> str:
    known = list(known)
    group = [name for name in known if name.startswith(f"{key}.")]
    if group:
        return f"{key}: a group of keys, not a key itself; it has {', '.join(group)}"
    key = key if len(key) <= 80 else key[:80] + "..."
    near = nearest_key(key, known)
    return f"{key}: no such key; {f'did you mean {near}?' if near else 'see --help for all keys'}"


def nearest_key(key: str, known: Sequence[str], cutoff: float = 0.6) -> str | None:
    """The key that was meant, by its whole or its last part, of several the first; None: it is like none."""
    by_last_part = {name.rpartition(".")[2]: name for name in reversed(known)}
    near = difflib.get_close_matches(key, known, 1, max(cutoff, 0.7))
    last = difflib.get_close_matches(key.rpartition(".")[2], by_last_part, 1, cutoff)
    return next(iter([*near, *(by_last_part[part] for part in last)]), None)


def takes_text(hint: Any) -> bool:
    """Whether a key of this type takes free text (`str` or `str | None`)."""
    return hint is str or (get_origin(hint) in (Union, types.UnionType) and str in get_args(hint))


def _dataclass(cls: type[Any], values: Any, key: str, known: Iterable[str], problems: list[str]) -> Any:
    if not isinstance(values, Mapping):
        first = dataclasses.fields(cls)[0].name
        problems.append(f"{key} = {values!r}: must be a group of keys, such as {key}.{first}=...")
        return None
    hints = _hints(cls)
    prefix = f"{key}." if key else ""
    problems += [unknown_key(f"{prefix}{name}", known) for name in values if name not in hints]
    missing = (dataclasses.MISSING, dataclasses.MISSING)
    required = [f.name for f in dataclasses.fields(cls) if (f.default, f.default_factory) == missing]
    problems += [f"{prefix}{name}: missing" for name in required if name not in values]
    fields = {}
    for name, hint in hints.items():
        if name not in values:
            continue
        if (nested := _nested(hint, values[name])) is not None:
            fields[name] = _dataclass(nested, values[name], prefix + name, known, problems)
            continue
        try:
            fields[name] = _value(hint, values[name])
        except ValueError as error:
            problems.append(f"{prefix}{name} = {_shown(values[name])}: must be {error}")
    return None if problems else cls(**fields)


def _nested(hint: Any, value: Any) -> type[Any] | None:
    """The dataclass that a value of the type `hint` has to be; None if it has to be none, or is None."""
    if value is not None and get_origin(hint) in (Union, types.UnionType):
        options = [option for option in get_args(hint) if option is not type(None)]
        hint = options[0] if len(options) == 1 else None
    return typing.cast(type[Any], hint) if dataclasses.is_dataclass(hint) else None


def _value(hint: Any, value: Any) -> Any:
    """`value` as the type `hint`, or a ValueError whose message completes "must be ..."."""
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(type(value)):  # it is converted already
        return value
    if origin in (Union, types.UnionType):
        refusals = []
        for option in arguments:
            try:
                return _value(option, value)
            except ValueError as refusal:
                refusals.append(str(refusal))
        raise ValueError(" or ".join(refusals))
    if origin is Literal:
        if value in arguments and not isinstance(value, bool):
            return value
        near = difflib.get_close_matches(str(value)[:80], [str(a) for a in arguments], n=1)
        choices = " | ".join(str(a) for a in arguments)
        raise ValueError(choices + (f"; did you mean {near[0]}?" if near else ""))
    if origin is Annotated:
        kind, allowed = arguments
        if isinstance(allowed, Range):
            return _number(kind, allowed, value)
        right = _exactly(value in allowed, value, str(allowed))
        return str(right) if isinstance(allowed, Duration) else tuple(map(float, right))
    if origin is tuple and arguments[0] is not str:
        several = value if isinstance(value, list | tuple) else [value]
        try:
            return tuple(_value(arguments[0], item) for item in several)
        except ValueError as refusal:
            raise ValueError(f"{refusal}, or a list of such") from None
    if origin is tuple:
        texts = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
        return tuple(_exactly(texts, value, "a list of texts, such as [a,b]"))
    if hint in (int, float):
        return _number(hint, None, value)
    if hint is type(None):
        return _exactly(value is None, value, "null")
    if hint is bool:
        return _exactly(isinstance(value, bool), value, "true or false")
    return _exactly(isinstance(value, str), value, "text; in YAML, put it in quotes")


def _number(kind: type[Any], allowed: Range | None, value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    right = is_number and value in (allowed or FINITE) and (kind is float or value == int(value))
    expected = "a number" if kind is float else "a whole number"
    return kind(_exactly(right, value, expected if allowed is None else f"{expected}, {allowed}"))


def _exactly(right: bool, value: Any, expected: str) -> Any:
    if not right:
        raise ValueError(expected)
    return value


def _shown(value: Any) -> str:
    return "null" if value is None else str(value) if len(str(value)) <= 80 else str(value)[:80] + "..."
