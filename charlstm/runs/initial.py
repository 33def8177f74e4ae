"""`init=`: a trained model -> the first weights of a run that learns another text, in other letters too."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charlstm import checkpoint
from charlstm.checkpoint import LAST, Checkpoint, CheckpointError
from charlstm.config.compose import compose, downloads
from charlstm.config.convert import keys_of, values_of
from charlstm.config.settings import DataConfig, ModelConfig, TrainSettings
from charlstm.runs.resume import Saved
from charlstm.text import corpus as corpora
from charlstm.text.corpus import Corpus
from charlstm.text.vocabulary import UnknownCharacterError, Vocabulary

COMPARED = 20_000  # symbols of either text that are scored before and after, at most


@dataclass(frozen=True)
class Initial:
    """What a run begins with: weights of a model whose `origin` is there in words, with room for the new
    characters, and its old text with the ids of now; None: it is not to be had, and `missing` says why."""

    origin: str
    weights: dict[str, NDArray[np.float32]]
    old: Corpus | None
    missing: str = ""


def read_text(
    settings: TrainSettings, data: DataConfig, saved: Saved | None
) -> tuple[TrainSettings, Corpus, Initial | None]:
    """The text of a run, with the vocabulary of the run that is resumed or, grown by what is new, of the
    model of `init`, whose shape the settings get. Raises ValueError if they do not fit together."""
    if settings.init is None:
        if settings.train.keep or settings.data.old:
            raise ValueError("train.keep, data.old: are about the text of init=..., which is missing")
        return settings, _resumable(data, saved), None
    try:
        trained = checkpoint.load(Path(settings.init))
    except CheckpointError:
        if saved is None or settings.train.keep:
            raise
        return settings, _resumable(data, saved), None  # what it was begun from is no longer needed
    name, unit = f"init = {settings.init}", trained.vocabulary.unit
    model = replace(trained.config, engine=settings.model.engine)
    settings = replace(settings, model=model, data=replace(settings.data, unit=unit))
    data = replace(data, unit=unit)
    if saved is not None:
        corpus = _resumable(data, saved)
    else:
        corpus = corpora.read(data)
        mine, known = corpus.vocabulary, trained.vocabulary
        if not set(mine.characters) & set(known.characters):
            raise ValueError(
                f"{name}: knows {known.characters[:40]!r}, not one of the {len(mine.characters)} characters "
                "of this text; leave init out"
            )
        corpus = corpora.read(replace(data, alphabet=None), joined(known, mine))
        if trained.config.head == "none" and len(corpus.vocabulary) != len(known):
            new = corpus.vocabulary.characters[len(known.characters) :]
            raise ValueError(f"{name}: its model.head=none leaves no room for new characters, {new[:40]!r}")
    old, missing = _old_text(settings, trained, corpus.vocabulary)
    if old is None and settings.train.keep:
        raise ValueError(f"train.keep = {settings.train.keep}: {missing}; data.old=... names it")
    origin = f"{settings.init}: {trained.task} of {len(trained.vocabulary.characters)} characters"
    if old is not None:
        origin += f", {old.facts.source}"
    return settings, corpus, Initial(origin, grown(trained, corpus.vocabulary), old, missing)


def check_shape(asked: TrainSettings, planned: TrainSettings, typed: Collection[str]) -> None:
    """Check what was asked for against a plan that has the shape of the model of `init`; ValueError if
    another one was, by a key that was `typed`, its usual value or not, or by an experiment."""
    if asked.init is None:
        return
    usual = values_of(compose("train", TrainSettings, [f"task={asked.task}"]))
    before, has = values_of(asked), values_of(planned)
    for key in ("data.unit", *keys_of(ModelConfig, "model.")):
        is_asked = key in typed or before[key] != usual[key]
        if is_asked and before[key] not in (has[key], "auto"):
            raise ValueError(
                f"{key} = {before[key]}: the model of init = {asked.init} has {has[key]}; leave it out"
            )


def joined(known: Vocabulary, other: Vocabulary) -> Vocabulary:
    """The characters of both, those of the first in their order."""
    new = "".join(character for character in other.characters if character not in known.characters)
    has_unknown = known.unknown is not None or other.unknown is not None
    return Vocabulary(known.characters + new, unknown=has_unknown, unit=known.unit)


def grown(trained: Checkpoint, vocabulary: Vocabulary) -> dict[str, NDArray[np.float32]]:
    """The weights of a model for another vocabulary, which begins with its characters and has its tokens:
    what belongs to a character or token goes with it, and new ones begin in the mean of the characters."""
    known, tokens = len(trained.vocabulary.characters), vocabulary.start  # the tokens begin there
    of_ids = {"embedding.weight": 0, "head.weight": 0, "head.bias": 0}
    of_ids |= {} if trained.config.embedding else {"rnn.weight_ih_l0": 1}
    weights = dict(trained.weights)
    for name, axis in of_ids.items():
        if name in weights:
            rows = np.moveaxis(weights[name], axis, 0)
            new = np.repeat(rows[:known].mean(0, keepdims=True), len(vocabulary), axis=0)
            new[:known] = rows[:known]
            new[tokens : tokens + len(rows) - known] = rows[known:]
            weights[name] = np.ascontiguousarray(np.moveaxis(new, 0, axis))
    return weights


def _resumable(data: DataConfig, saved: Saved | None) -> Corpus:
    """The text in the alphabet of the run that is resumed."""
    if saved is None or data.min_count != saved.state.settings.data.min_count:
        return corpora.read(data)
    try:
        return corpora.read(data, saved.trained.vocabulary)
    except UnknownCharacterError as error:
        if data.alphabet is not None:
            raise
        raise UnknownCharacterError(
            f"{error}; init={saved.path.parent} in place of resume learns new characters"
        ) from None


def _old_text(settings: TrainSettings, trained: Checkpoint, known: Vocabulary) -> tuple[Corpus | None, str]:
    """The text that a model was trained on: named, or where it lay, if it is the same; or None, and why."""
    path = Path(settings.init or "")
    last = (path.parent if path.is_file() else path) / LAST
    if trained.training is None and last.exists():
        path, trained = last, checkpoint.load(last)
    training, named, sha256 = trained.training, settings.data.old, None
    config = settings.data if training is None else training.settings.data
    if named is not None:
        config = replace(config, path=named, text=None, url=None, sha256=None)
    elif training is None:
        return None, f"{path} does not say where its text lay"
    else:
        sha256, place = training.data.sha256, Saved(path, trained, []).values()["data.path"]
        url = config.url if (config.url, config.sha256) in downloads() else None
        config = replace(config, path=place, url=url)
    split = (1.0, 0.0, 0.0) if trained.task == "memorize" else config.split
    try:
        if sha256 is not None and corpora.digest(config) != sha256:
            return None, f"the old text, {config.path}, is not what it was"
        return corpora.read(replace(config, split=split, alphabet=None, min_count=1), known), ""
    except ValueError as error:
        if named is not None:
            raise ValueError(f"data.old = {named}: {error}") from None
        return None, f"the old text cannot be had: {error}"
