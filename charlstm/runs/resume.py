"""An earlier run -> one that goes on from it: which values are as they were, and what differs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlstm.checkpoint import Checkpoint
from charlstm.config.compose import CONF, quote, quote_free_text
from charlstm.config.convert import keys_of
from charlstm.config.settings import TrainSettings
from charlstm.config.values import as_mapping
from charlstm.runs import directory, resume
from charlstm.text import source

NOT_TAKEN_OVER = ("resume", "resume_with_other_data", "check")


@dataclass(frozen=True)
class Resumed:
    """An earlier run, as the one that goes on from it sees it.

    Attributes:
        path: the checkpoint.
        trained: its content.
        changed: the keys that are not as they were, with their values then and now.
        other_data: whether the text is another.
        refusals: what is wrong with newer checkpoints of the run.
    """

    path: Path
    trained: Checkpoint
    changed: dict[str, tuple[Any, Any]]
    other_data: bool
    refusals: list[str]

    @property
    def training(self) -> dict[str, Any]:
        """What else was saved, as JSON knows it."""
        assert self.trained.training is not None
        return self.trained.training

    def unchanged(self, *keys: str) -> bool:
        """Whether these keys, or all keys of these groups, are as they were."""
        return not any(key == k or key.startswith(f"{k}.") for k in keys for key in self.changed)

    @property
    def same_training(self) -> bool:
        """Whether it would come to the same end."""
        return self.same_parts and self.unchanged("train")

    @property
    def same_parts(self) -> bool:
        """Whether what was scored before can be compared with what will be."""
        return not self.other_data and self.unchanged("data.split", "data.records")

    @property
    def same_place(self) -> bool:
        """Whether the windows are the same, so that it can go on in the middle of an epoch."""
        cuts = ("data.split", "data.records", "seed", "train.layout", "train.batch", "train.window")
        return not self.other_data and self.unchanged(*cuts)

    def differences(self, now: Mapping[str, Any]) -> Iterator[str]:
        """What is not as it was, a line each.

        Args:
            now: versions, threads and their like, of which the checkpoint has what they were.
        """
        yield from self.refusals
        for key, (before, after) in self.changed.items():
            yield f"{key} = {_typed(after)} (was {_typed(before)})"
        for name, before in self.training["provenance"].items():
            if name in now and now[name] != before:
                yield f"{name} {now[name]} (was {before}): the last bits may differ"
        if self.other_data:
            yield "the text is another than before"


def stored_settings(path: str) -> dict[str, Any]:
    """The values of a run by dotted key, but for those that say how to go on from another; a relative path to
    its text, where there is none from here, as one from where that run was started.

    Raises:
        CheckpointError: there is no run to go on from.
    """
    _, trained, _ = directory.last_of(Path(path))
    assert trained.training is not None
    values = _flat(trained.training["settings"])
    if text := values["data.path"]:
        there = Path(trained.training["folder"], text)
        if not any(folder.joinpath(text).exists() for folder in (Path(), source.PROJECT)) and there.exists():
            values["data.path"] = str(there)
    return {key: value for key, value in values.items() if key not in NOT_TAKEN_OVER}


def resumed(settings: TrainSettings, characters: str, data: dict[str, Any]) -> Resumed | None:
    """The run that `resume` names; None if it names none.

    Args:
        characters: of the vocabulary.
        data: size and SHA-256 of the text.

    Raises:
        ValueError: there is no such run, or what was asked for cannot go on from it.
    """
    if settings.resume is None:
        return None
    path, trained, refusals = directory.last_of(Path(settings.resume))
    assert trained.training is not None
    before, now = _flat(trained.training["settings"]), _flat(json.loads(json.dumps(as_mapping(settings))))
    changed = {
        key: (before[key], value)
        for key, value in now.items()
        if key in before and key not in NOT_TAKEN_OVER and before[key] != value
    }
    for key in changed:
        if key == "copy.symbols" or (key.startswith("model.") and key != "model.engine"):
            raise ValueError(f"{key} = {now[key]}: the run that is resumed has {before[key]}; leave it out")
    if characters != trained.vocabulary.characters:
        raise ValueError(
            f"resume = {settings.resume}: was trained on {len(trained.vocabulary.characters)} characters, "
            f"which are not the {len(characters)} of this text; data.alphabet can name them"
        )
    other = data != trained.training["data"]
    if other and not settings.resume_with_other_data:
        was, is_ = trained.training["data"]["size"], data["size"]
        raise ValueError(
            f"resume = {settings.resume}: the text has changed since ({was:,} bytes then, {is_:,} now); give "
            "it as it was, or resume_with_other_data=true"
        )
    return Resumed(path, trained, changed, other, refusals)


def _typed(value: Any) -> str:
    """A value as it is typed: null, true, [0.9, 0.1, 0]."""
    return value if isinstance(value, str) else json.dumps(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def complete(arguments: Sequence[str], settings_type: type[Any]) -> list[str]:
    """The arguments, quoted for Hydra; with `resume=...` those of the run that it names come before them.

    Raises:
        ValueError: there is no such run, or a group of values or another task was asked for besides.
    """
    quoted = quote_free_text(arguments, settings_type)
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    if "resume" not in given or "resume" not in keys_of(settings_type):
        return quoted
    if not given["resume"]:
        raise ValueError("resume = : names no run; give a run directory or one of its checkpoints")
    for group in sorted(path.name for path in CONF.iterdir() if path.is_dir()):
        if group in given and group != "task":
            raise ValueError(
                f"{group} = {given[group]}: does not go together with resume, which takes all values from "
                "the run; give single keys"
            )
    stored = resume.stored_settings(given["resume"])
    if given.get("task", stored["task"]) != stored["task"]:
        raise ValueError(
            f"task = {given['task']}: the run that is resumed has {stored['task']}; leave it out"
        )
    known = keys_of(settings_type)
    taken = {key: value for key, value in stored.items() if key in known and key not in given}
    return [f"{key}={literal(value)}" for key, value in taken.items()] + quoted


def literal(value: Any) -> str:
    """A value as Hydra's grammar has it."""
    if isinstance(value, list):
        return f"[{','.join(map(literal, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return quote(value) if isinstance(value, str) else repr(value)
