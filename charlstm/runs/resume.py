"""An earlier run -> one that resumes it: which values are as they were, and what differs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from charlstm import checkpoint
from charlstm.checkpoint import LAST, Checkpoint, CheckpointError
from charlstm.config.compose import downloads, groups, literal, quote_free_text, typed
from charlstm.config.convert import values_of
from charlstm.config.settings import Optimizer, TrainSettings
from charlstm.files import PROJECT
from charlstm.runs import directory
from charlstm.state import Machine, TrainingState
from charlstm.text import corpus as corpora
from charlstm.text import source
from charlstm.text.vocabulary import Vocabulary

NOT_TAKEN_OVER = ("resume", "resume_with_other_data", "check")


@dataclass(frozen=True)
class Saved:
    """The newest good state of an earlier run, read and verified once; `refusals` are of newer ones. What
    differs in the run that resumes it is known as soon as that is planned."""

    path: Path
    trained: Checkpoint
    refusals: list[str]
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)  # values then and now, by key
    other_data: bool = False

    @property
    def state(self) -> TrainingState:
        """What else was saved."""
        assert self.trained.training is not None
        return self.trained.training

    @property
    def optimizer(self) -> Optimizer:
        """The one that was asked for or, by what it left, chosen: other versions choose others."""
        asked = self.state.settings.train.optimizer
        if asked != "auto":
            return asked
        kinds = {name.partition("/")[0] for name in self.trained.arrays}
        return "muon" if "muon" in kinds else "soap" if "soap" in kinds else "adamw"

    def values(self) -> dict[str, Any]:
        """The settings by dotted key, but for those that say how to resume; a relative path to a text or a
        model that is not there from here is given as one from where that run was started."""
        values = values_of(self.state.settings)
        for key in ("data.path", "data.old", "init"):
            if path := values[key]:
                there = Path(self.state.folder, path)
                if not any(folder.joinpath(path).exists() for folder in (Path(), PROJECT)) and there.exists():
                    values[key] = str(there)
        return {key: value for key, value in values.items() if key not in NOT_TAKEN_OVER}

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
        """Whether the windows are the same, so that it can be resumed in the middle of an epoch."""
        of_text = ("data.old", "data.split", "data.records", "train.keep", "seed")
        of_windows = ("train.layout", "train.batch", "train.window")
        return not self.other_data and self.unchanged(*of_text, *of_windows)

    def differences(self, versions: Mapping[str, Any], machine: Machine) -> Iterator[str]:
        """What is not as it was, a line each."""
        yield from self.refusals
        for key, (before, after) in self.changed.items():
            yield f"{key} = {typed(after)} (was {typed(before)})"
        for name, now in {**versions, **vars(machine)}.items():
            if now != (before := getattr(self.state.provenance, name)):
                yield f"{name} {now} (was {before}): the last bits may differ"
        if self.other_data:
            yield "the text is another than before"
        if not self.same_place:
            yield f"other windows than before: after {self.state.numbers.epoch:,} epochs the next begins anew"


def find(path: Path) -> Saved:
    """The newest state to resume of a run directory, or this very file. CheckpointError if there is none."""
    refusals = []
    for candidate in [path / LAST, *directory.older(path)] if path.is_dir() else [path]:
        try:
            trained = checkpoint.load(candidate)
        except CheckpointError as error:
            refusals.append(str(error))
            continue
        if trained.training is None:
            raise CheckpointError(
                f"{candidate}: has only what sampling needs; a run is resumed from its {LAST}, "
                "or its directory"
            )
        return Saved(candidate, trained, refusals)
    raise CheckpointError(refusals[0])


def complete(arguments: Sequence[str]) -> tuple[list[str], Saved | None]:
    """The arguments, quoted for Hydra; with `resume=...` those of the run that it names come before them, and
    its state is returned, too. Raises ValueError if there is no such run, or it cannot be resumed so."""
    quoted = quote_free_text(arguments, TrainSettings)
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    if given.get("resume", "null") == "null":
        return quoted, None
    if given.get("init", "null") not in ("", "null"):
        raise ValueError(
            f"init = {given['init']}: begins a new run with another text, resume goes on with the same "
            "one; leave one of them out"
        )
    if not given["resume"]:
        raise ValueError("resume = : names no run; give a run directory or one of its checkpoints")
    for group in groups():
        if group in given and group != "task":
            raise ValueError(
                f"{group} = {given[group]}: does not go together with resume, which takes all values from "
                "the run; give single keys"
            )
    saved = find(Path(given["resume"]))
    stored = saved.values()
    if (task := given.get("task", stored["task"])) != stored["task"]:
        raise ValueError(f"task = {task}: the run that is resumed has {stored['task']}; leave it out")
    if not given.keys() & {"data.path", "data.text"}:
        _refuse_strange(saved, stored["data.path"], given.get("data.url"))
    taken = [f"{key}={literal(value)}" for key, value in stored.items() if key not in given]
    return taken + quoted, saved


def resumed(
    settings: TrainSettings, saved: Saved | None, vocabulary: Vocabulary, corpus: corpora.Corpus | None
) -> Saved | None:
    """The same with what differs in the run that resumes it. Raises ValueError if what is asked for cannot be
    had so. `corpus` is None where the task has none."""
    if saved is None:
        return None
    before, now = values_of(saved.state.settings), values_of(settings)
    changed = {k: (before[k], v) for k, v in now.items() if k not in NOT_TAKEN_OVER and before[k] != v}
    for key in changed:
        if key == "copy.symbols" or (key.startswith("model.") and key != "model.engine"):
            raise ValueError(f"{key} = {now[key]}: the run that is resumed has {before[key]}; leave it out")
    if vocabulary != saved.trained.vocabulary:
        mend = f"init={saved.path.parent} in place of resume learns them"
        raise ValueError(
            f"resume = {settings.resume}: was trained on {_shown(saved.trained.vocabulary)}, "
            f"which are not the {_shown(vocabulary)} of this text; {mend}"
        )
    other = corpus is not None and not corpus.matches(saved.state.data)
    if corpus is not None and other and not settings.resume_with_other_data:
        raise ValueError(
            f"resume = {settings.resume}: the text has changed since ({saved.state.data.size:,} bytes then, "
            f"{corpus.data.size:,} now); give it as it was, or resume_with_other_data=true"
        )
    return replace(saved, changed=changed, other_data=other)


def _refuse_strange(saved: Saved, path: str | None, url: str | None) -> None:
    """Check what the checkpoint alone names, which anybody may have made: the text's `path`, unless it is in
    the current folder or is what was trained on, and where it is downloaded from, unless `conf/data` or the
    user, by `url`, names that; ValueError if the user has to name it."""
    data = replace(saved.state.settings.data, path=path)
    if data.text is not None or path in (None, "", "-"):
        return
    try:
        place = source.locate(str(path), "data.path")
    except ValueError:  # which is for others to answer
        if not data.url or url is not None or (data.url, data.sha256) in downloads():
            return
        raise ValueError(
            f"data.url = {data.url}: only the checkpoint names it; if {path} shall be downloaded from there, "
            "give data.url, too"
        ) from None
    is_within = place.resolve().is_relative_to(Path.cwd().resolve()) and ".." not in Path(data.glob).parts
    if not is_within and corpora.digest(data) != saved.state.data.sha256:
        raise ValueError(
            f"data.path = {path}: only the checkpoint names it, it is outside of the current folder, and it "
            "is not the text that was trained on; if it shall be read all the same, give data.path, too"
        )


def _shown(vocabulary: Vocabulary) -> str:
    units = "bytes" if vocabulary.unit == "byte" else "characters"
    unknown = "" if vocabulary.unknown is None else " and an unknown one"
    return f"{len(vocabulary.characters)} {units}{unknown}"
