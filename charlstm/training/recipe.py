"""What `auto` means: the settings that are decided by the text, in one place.

The values of every key stand in `conf/`, the types in `config/settings.py`; here is the policy alone.
"""

import math
import zlib
from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any

from charlstm.config.settings import Task, TrainConfig, TrainSettings
from charlstm.config.values import Duration
from charlstm.model.numpy_model import parameter_count
from charlstm.text.vocabulary import Ids
from charlstm.training.clock import Clock

LONG_TEXT = 102
"""Symbols from which on a text is learnt by heart as segments side by side: 100 characters and the tokens.
They are as good for shorter ones, but SOAP's steps take longer, which narrow models alone make up for."""

MOST_SEGMENTS = 64

TRAINED = 0.8
"""Share of the time that is left which the steps of a language model take, about; evaluations, the final
scores and saving take the rest."""

LEAST_SCORED = 4_000
"""Symbols whose score says something."""

FINE_TUNING = 0.5
"""Of a learning rate that is chosen, the share with which a trained language model learns another text
(`init`). Of 0.15, 0.25, 0.5 and 1 it was best in as many steps, by AdamW and by Muon, for 4 of 5 pairs of
texts, and second for a list of 4 kB. A text by heart takes all of it: 12 texts of 60 or 600 characters took
35 epochs in the mean, with half of it 45, from nothing 57."""

MUON_HIDDEN = 256
"""Units from which on an LSTM is trained by Muon: with 288 to 512 and texts of 100 kB to 1 MB it scored
better in the same time than AdamW as it is chosen otherwise, though on one of four AdamW with as much
dropout was as good; with 96 and 192 and texts of 4 and 20 kB it did not. Nor where most weights were those
of an alphabet of a thousand characters, and AdamW's steps took half the time. One seed each."""

PASSES, LEAST_STEPS, LONGEST = 25, 300, "5m"
"""A language model of which nothing is said: so many passes, no fewer steps, and no longer than that."""

LITTLE, MOST_AT_ONCE = 0.5, 20_000
"""Bits of a symbol below which a text of no more than so many symbols has nothing to learn by heart but when
something happens, so that gradients must flow through all of it."""

ROOM, BY_HEART_HIDDEN, BY_HEART_LR = 0.4, 64, 0.03
"""A text of fewer bits a parameter than that is learnt by heart by Muon, from so many units on, at this rate:
200 to 20,000 characters of a play by 2 x 128 in a quarter to a half of SOAP's time, at 0.02 and 0.05 a little
later. What fills the net, or a narrow one, SOAP learns in fewer epochs: 20,000 random characters, 0.44 bits a
parameter, in 36, Muon in 61."""

HARDEST_LR = 0.4
"""The share of SOAP's usual rate for `train.loss=hardest`: with all of it 3,000 letters took 793 epochs in
place of 99, with half of this share 127."""


def information(ids: Ids) -> float:
    """Bits of a text `(N,)`, at most: of what zlib makes of it."""
    return 8.0 * len(zlib.compress(ids.tobytes(), 9))


def for_text(
    config: TrainConfig, symbols: int, hidden: int, bits: float = math.inf, parameters: int = 0
) -> TrainConfig:
    """The same with all that is `auto` decided, to learn a text by heart. Raises ValueError if the layout
    cannot cut that text into `train.batch` streams.

    A long text is learnt many times faster as segments side by side, for the products are larger and the
    gradients have less far to go; and by Muon or SOAP. In one that says little, such as 3,000 times a letter,
    it has to be known when something happens, for which see `losses.hardest` and `Model.add_forget_bias`; in
    a long one that says something, each character must be the likeliest: `losses.focal`.

    Args:
        symbols: ids of the text, the start and end token included.
        hidden: units of a layer, H.
        bits: of the text (`information`).
        parameters: of the model.
    """
    layout, batch = config.layout, config.batch
    # runs of before there was another loss for long texts have said that it is the cross-entropy
    is_usual = config.loss in ("auto", "cross_entropy")
    is_free = layout == "auto" and batch == 1 and is_usual and not config.forget_bias
    if is_free and LONG_TEXT <= symbols <= MOST_AT_ONCE and bits < LITTLE * symbols:
        layout, config = "sequence", replace(config, loss="hardest", forget_bias="chrono")
    is_hardest = config.loss == "hardest"
    if layout == "auto":
        is_long = batch > 1 or symbols >= LONG_TEXT
        layout = "segments" if is_long else "sequence"
        if is_long and batch == 1:
            batch = segments(symbols)
    loss = config.loss
    if loss == "auto":
        loss = "focal" if layout == "segments" else "cross_entropy"
    optimizer, lr, decay = config.optimizer, config.lr, config.decay
    if optimizer == "auto":
        is_long = layout == "segments" and loss in ("cross_entropy", "focal")
        by_muon = is_long and hidden >= BY_HEART_HIDDEN and bits < ROOM * parameters
        optimizer = "muon" if by_muon else "soap" if is_long or is_hardest else "adamw"
    if lr == "auto":
        rates = {"soap": soap_lr(hidden), "muon": BY_HEART_LR, "adamw": 0.01}
        lr = (HARDEST_LR if is_hardest else 1.0) * rates[optimizer]
    if decay == "auto":
        decay = "none" if optimizer == "adamw" or is_hardest else "loss"
    if layout == "sequence" and batch != 1:
        raise ValueError(
            f"train.batch = {batch}: train.layout=sequence reads the text as one sequence, so it "
            "must be 1; or choose another layout, such as train.layout=segments"
        )
    if batch >= symbols:
        raise ValueError(
            f"train.batch = {batch}: a text of {symbols} symbols (the start and end token included) "
            f"has at most {symbols - 1} streams with something to predict; choose at most {symbols - 1}"
        )
    return replace(config, layout=layout, batch=batch, loss=loss, optimizer=optimizer, lr=lr, decay=decay)


def segments(symbols: int) -> int:
    """How many are good for a text of so many symbols."""
    return min(max(symbols // 100, 1), MOST_SEGMENTS)


def soap_lr(hidden: int) -> float:
    """SOAP's best learning rate, as found for 16, 35, 64 and 128 units: it falls with the width, of wide
    models as theory would have it (Yang et al. 2022, "Tensor Programs V")."""
    return min(3.5 / hidden, 0.4 / math.sqrt(hidden), 0.1)


def longest_window(config: TrainConfig, symbols: int) -> int:
    """The most steps that gradients flow back through, in a text of so many symbols."""
    if config.layout not in ("streams", "segments"):
        return symbols - config.batch
    longest = min(config.window, -(-(symbols - 1) // config.batch))
    # segments: an epoch of one window may be longer than a pass by the golden ratio
    return longest if config.layout == "streams" else math.ceil(1.6181 * longest)


def by_corpus(settings: TrainSettings, symbols: int, vocabulary_size: int) -> dict[str, Any]:
    """Key -> value of what is `auto` for a language model of `symbols` ids of V, and where it ends.

    Weights are in proportion to the text, or fewer if time is short; wider nets learn at a lower rate, and by
    Muon, which learns by heart sooner, too; more passes over the text, by AdamW also more weights for each
    symbol, take more dropout and weight decay. Time is that of a usual core, so that a text gets the same net
    everywhere. The numbers were found on texts like those of `benchmarks.sizes`."""
    model, train = settings.model, settings.train
    per_pass, chars = steps_per_epoch(for_corpus(train, symbols), symbols), train.batch * train.window
    is_free, most = train.budget == "auto" and train.steps is None, train.steps or train.epochs * per_pass
    steps, seconds = min(most, max(PASSES * per_pass, LEAST_STEPS)) if is_free else most, math.inf
    if train.steps is None and train.budget is not None:
        seconds = Duration.seconds(LONGEST if is_free else train.budget)
    time = min(seconds, 2e-5 * chars * most)
    width = 512 * min(math.sqrt(symbols / 130_000), (time / 300) ** 0.38, 4)
    hidden = max(32 * round(width / 32), 32) if model.hidden == "auto" else model.hidden
    weights = parameter_count(replace(model, hidden=hidden), vocabulary_size)
    optimizer = train.optimizer
    if optimizer == "auto":
        is_most = 2 * vocabulary_size * (model.embedding + hidden) < weights  # of them what Muon moves
        is_good = hidden >= MUON_HIDDEN and model.cell == "lstm" and is_most
        optimizer = "muon" if is_good else "adamw"
    is_muon = optimizer == "muon"
    in_time = seconds / (chars * (1e-6 + 6e-11 * weights) * (1 + 2 * hidden / chars * is_muon))
    passes = min(steps, in_time) / per_pass
    # of a small net: of how often each symbol meets a weight, from 32 times on
    doublings = max(math.log2(passes if is_muon else passes * weights / symbols / 32), 0.0)
    dropout, decay, lr = (0.09, 0.06, 0.4) if is_muon else (0.08, 0.12, 0.3)
    dropout, decay = round(min(dropout * doublings, 0.5), 2), round(min(decay * doublings, 1.0), 2)
    values: dict[str, Any] = {
        "model.hidden": hidden,
        "train.optimizer": optimizer,
        "train.lr": round(min(lr / math.sqrt(hidden), 0.02) * (FINE_TUNING if settings.init else 1), 4),
        "train.dropout.hidden": dropout,
        "train.dropout.weight": dropout / 2,
        "train.weight_decay": decay,
        "train.budget": None if steps <= in_time else LONGEST,
    }
    values = {key: value for key, value in values.items() if attrgetter(key)(settings) == "auto"}
    return values | ({"train.epochs": steps // per_pass} if is_free and steps <= in_time else {})


def with_values(settings: Any, values: Mapping[str, Any]) -> Any:
    """Settings with these values by dotted key."""
    for key, value in values.items():
        first, _, rest = key.partition(".")
        value = with_values(getattr(settings, first), {rest: value}) if rest else value
        settings = replace(settings, **{first: value})
    return settings


def for_corpus(config: TrainConfig, symbols: int) -> TrainConfig:
    """The same for a language model of a text of `symbols` ids, at least 2: with fewer streams or shorter
    windows if need be."""
    # the cut may leave out up to a window of ids
    batch, window = min(config.batch, max((symbols - 1) // config.window - 1, 1)), config.window
    if (batch + 1) * window >= symbols:
        window = max((symbols - 1) // 2, 1)
    return replace(config, batch=batch, window=window)


def steps_of(config: TrainConfig, symbols: int, clock: Clock, seconds_per_step: float) -> int:
    """The steps of a language model: `train.steps`, about those that there is time for, or `train.epochs`
    passes."""
    if config.steps is not None:
        return config.steps
    if clock.budget is not None:
        return max(int(TRAINED * clock.left() / seconds_per_step), 1)
    return config.epochs * steps_per_epoch(config, symbols)


def old_streams(config: TrainConfig) -> int:
    """How many streams of an old text, beside `train.batch` of the new one, make `train.keep` of all."""
    return max(round(config.batch * config.keep / (1 - config.keep)), 1) if config.keep else 0


def sampled(config: TrainConfig, steps: int, times: int) -> int:
    """How many symbols of the valid part are scored `times` times while training, at most, for the time of
    that, about a third of training on them, to be in the order of a tenth: the text decides, no clock."""
    passes = 2 if config.averaging else 1
    return max(int(0.4 * steps * config.batch * config.window / (times * passes)), LEAST_SCORED)


def evaluations_due(step: int, steps: int, times: int, per_pass: int) -> int:
    """How many of `times` evaluations are due after so many of all steps, `per_pass` of which are a pass over
    the text. They are spread evenly or, if there are more than `PASSES` passes, by the logarithm: a small
    text is learnt by heart long before the end, and the weights that score best are those of an early step.
    The last two are up to a hundred times as far apart as the first two, and these at least a step."""
    ratio = min(steps / per_pass / PASSES, steps / times, 100.0)
    if ratio <= 1:
        return step * times // steps
    return int(times * math.log1p((ratio - 1) * step / steps) / math.log1p(ratio - 1))


def steps_per_epoch(config: TrainConfig, symbols: int) -> int:
    """Of a language model; where the text is cut may make one of them fewer."""
    return max((symbols - 1) // (config.batch * config.window), 1)


DECIDED = {key: ["memorize"] for key in ("decay", "loss")} | {
    key: ["memorize", "lm"] for key in ("optimizer", "lr")
}
DECIDED |= {key: ["lm"] for key in ("dropout.hidden", "dropout.weight", "weight_decay", "budget")}
"""Keys of `train` that are decided by the text, and the tasks that do it."""


def refuse_undecided(config: TrainConfig, task: Task) -> None:
    """Check for a task. Raises ValueError if something is left to be decided, or follows from how well a text
    is known, that this task does not decide by the text."""
    for key, tasks in DECIDED.items():
        value = attrgetter(key)(config)
        if task not in tasks and (value == "auto" or (key, value) == ("decay", "loss")):
            raise ValueError(f"train.{key} = {value}: works with task={' or '.join(tasks)}; leave it out")
