"""`task=memorize`: the plan to learn a text by heart. What becomes of it is in `memorize_run.py`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from charlstm.config.settings import TrainSettings
from charlstm.config.values import refuse
from charlstm.model.numpy_model import parameter_count
from charlstm.runs.initial import read_text
from charlstm.runs.plan import Plan
from charlstm.runs.resume import Saved, resumed
from charlstm.text import source
from charlstm.text.corpus import Corpus
from charlstm.text.vocabulary import Ids
from charlstm.training import recipe


def plan(settings: TrainSettings, saved: Saved | None) -> "MemorizePlan":
    """What it takes to learn the text by heart. Raises ValueError if what is asked for does not fit."""
    recipe.refuse_undecided(settings.train, "memorize")
    refuse("data", settings.data, {"unit": "char", "min_count": 1, "records": "none"}, "is for task=lm")
    data = replace(settings.data, split=(1.0, 0.0, 0.0))
    if len(source.find(data)) > 1:
        raise ValueError(f"data.path = {data.path}: a folder; name a file in it")
    settings, corpus, initial = read_text(settings, data, saved)
    vocabulary, ids = corpus.vocabulary, corpus.vocabulary.framed(corpus.ids)
    settings.model.fit_vocabulary(len(vocabulary))
    asked = settings.train
    if saved is not None and asked.optimizer == "auto":  # what would be chosen now may be another one
        asked = replace(asked, optimizer=saved.optimizer)
    bits, parameters = recipe.information(ids), parameter_count(settings.model, len(vocabulary))
    config = recipe.for_text(asked, len(ids), settings.model.width, bits, parameters)
    return MemorizePlan(
        settings=settings,
        config=config,
        vocabulary=vocabulary,
        data=corpus.data,
        text_length=len(ids) - 2,
        window=recipe.longest_window(config, len(ids)),
        resumed=resumed(settings, saved, vocabulary, corpus),
        corpus=corpus,
        ids=ids,
        initial=initial,
    )


@dataclass(frozen=True, kw_only=True)
class MemorizePlan(Plan):
    """A plan to learn a text by heart; `ids (N,)` are those of the text between start and end token."""

    corpus: Corpus
    ids: Ids

    def describe_task(self) -> Iterator[str]:
        yield f"{self.corpus.facts.source}: {self.corpus.characters()}"
        if self.config.loss == "hardest" and self.settings.train.loss != "hardest":
            yield "A text that says little: train.layout=sequence train.loss=hardest train.forget_bias=chrono"
        yield f"{self.model}; {self.machine}; at most {self.config.epochs:,} epochs"
