"""`task=copy`: the plan to find out how many random symbols the state of a network can hold. What becomes of
it is in `copying_run.py`, the sequences are in `copy_sequences.py`."""

from collections.abc import Iterator

from charlstm.config.settings import TrainSettings
from charlstm.config.values import refuse
from charlstm.runs.plan import Plan
from charlstm.runs.resume import Saved, resumed
from charlstm.tasks import copy_sequences
from charlstm.tasks.memorize import FOR_LM
from charlstm.text.corpus import Fingerprint
from charlstm.training import recipe


def plan(settings: TrainSettings, saved: Saved | None) -> "CopyPlan":
    """What it takes to learn to copy. Raises ValueError if something is asked for that has no meaning
    there."""
    usual = {"text": None, "path": None, "unit": "char", "alphabet": None, "min_count": 1, "records": "none"}
    refuse("data", settings.data, usual, "task=copy draws symbols of its own")
    refuse("train", settings.train, FOR_LM, "works with task=lm only")
    refuse("train", settings.train, {"layout": "auto"}, "task=copy trains sequences side by side")
    recipe.refuse_undecided(settings.train, "copy")
    if settings.init is not None:
        raise ValueError(f"init = {settings.init}: works with task=memorize or lm; leave it out")
    vocabulary = copy_sequences.vocabulary(settings.copy.symbols)
    settings.model.fit_vocabulary(len(vocabulary))
    return CopyPlan(
        settings=settings,
        config=settings.train,
        vocabulary=vocabulary,
        data=Fingerprint.of_text(vocabulary.characters),
        text_length=0,
        window=copy_sequences.steps(1),
        resumed=resumed(settings, saved, vocabulary, None),
    )


class CopyPlan(Plan):
    """A plan to learn to copy."""

    def describe_task(self) -> Iterator[str]:
        symbols, config = self.settings.copy.symbols, self.config
        yield f"sequences of {symbols} random symbols, to be written back"
        most = f"at most {config.epochs:,} batches of {config.batch:,} sequences"
        yield f"{self.model}; {self.machine}; {most}"
