import math
import re
from dataclasses import replace
from itertools import cycle, islice

import numpy as np
import pytest
import torch
from conftest import settings
from hypothesis import given
from hypothesis import settings as at_most
from hypothesis import strategies as st

from charlstm.config.values import Duration
from charlstm.model.torch_model import Model
from charlstm.scoring import held_out
from charlstm.training import loop, losses, recipe, speed, windows
from charlstm.training.clock import Clock
from charlstm.training.loop import OPTIMIZERS, DivergedError
from charlstm.training.optimizer import Average
from charlstm.training.schedule import learning_rate

V, START = 11, 9
DECIDED = ["train.optimizer=adamw", "train.lr=0.01", "train.dropout.hidden=0.1", "train.dropout.weight=0.05"]
DECIDED += ["train.weight_decay=0"]
SMALL = [*("task=lm", "model.hidden=13", "model.embedding=5", "train.batch=3", "train.window=7"), *DECIDED]
PLAIN = ["train.dropout.hidden=0", "train.dropout.weight=0"]


def ids_of(symbols=100, seed=0):
    return np.random.default_rng(seed).integers(V - 2, size=symbols, dtype=np.uint8)


def model_of(*overrides, seed=0):
    torch.set_num_threads(1)
    chosen = settings(*SMALL, *overrides)
    torch.manual_seed(seed)
    return Model(chosen.model, V, chosen.train.dropout), chosen.train


def trained(*overrides, ids=None, start=START, steps=10, every=1, seed=0, **others):
    """A model and the figures of its training."""
    model, config = model_of(*overrides, seed=seed)
    ids = ids_of() if ids is None else ids
    return model, list(
        loop.of_corpus(model, ids, start, config, steps=steps, every=every, seed=seed, **others).figures()
    )


def by_hand(ids, steps, *overrides, start=START, seed=0):
    """The same training with torch's own optimiser, and the figures (loss, right, norm) of each step."""
    model, config = model_of(*overrides, seed=seed)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0}]
    betas = (config.beta1, config.beta2)
    optimizer = torch.optim.AdamW(groups, lr=1, betas=betas, weight_decay=config.weight_decay)
    figures, epochs, before = [], 0, None
    while len(figures) < steps:
        cut = windows.ShiftedStreams(ids, config.batch, config.window, start=None, seed=seed, epoch=epochs)
        for k, window in enumerate(cut):
            inputs, targets = (torch.tensor(part.astype("int64")) for part in window[:2])
            if k == 0:
                before, epochs = None, epochs + 1
            anew = torch.from_numpy(window.anew)
            inputs[0] = inputs[0] if start is None else torch.where(anew, start, inputs[0])
            before = before and tuple(part * ~anew[:, None] for part in before)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(len(figures), steps, config)
            scores, after = model(inputs, before)
            before = tuple(part.detach() for part in after)
            loss = losses.cross_entropy(scores, targets)
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            right = losses.correct(scores, targets).item() / targets.numel()
            figures.append([loss.item(), right, norm.item()])
            if len(figures) == steps:
                break
    return model, figures, epochs


@pytest.mark.parametrize("anew", [0, 0.3])
@pytest.mark.parametrize("start", [START, None])
def test_training_is_what_it_says(start, anew, monkeypatch):
    monkeypatch.setattr(windows, "ANEW", anew)  # at 0.3, 8 of 24 times
    # 100 symbols in 3 streams make 4 windows of 7: the eighth and the ninth step cross from the second epoch
    # into the third, where the state is zero again, the start token (if any) comes first and the text
    # is cut elsewhere
    overrides = [*PLAIN, "train.weight_decay=0.1", "train.warmup=3", "train.decay=cosine", "train.clip=0.3"]
    expected, figures, epochs = by_hand(ids_of(), 10, *overrides, start=start)
    model, progress = trained(*overrides, start=start)
    assert epochs == 3
    got = [[p.loss, p.accuracy, p.gradient_norm] for p in progress]
    np.testing.assert_allclose(got, figures, rtol=1e-5)  # float32, 10 steps of another AdamW
    for mine, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)
    config = model_of(*overrides)[1]
    assert [p.learning_rate for p in progress] == [learning_rate(step, 10, config) for step in range(10)]


def test_dropout_trains_with_the_masks_of_torchs_generator():
    overrides = ["train.dropout.input=0.1", "train.dropout.hidden=0.3", "train.dropout.weight=0.2"]
    _, figures, _ = by_hand(ids_of(), 6, *overrides)
    model, progress = trained(*overrides, steps=6)
    np.testing.assert_allclose([p.loss for p in progress], [loss for loss, *_ in figures], rtol=1e-5)
    assert model.training


def test_figures_are_those_of_the_steps_since_the_last():
    _, every_step = trained(steps=11)
    _, progress = trained(steps=11, every=4)
    assert [p.step for p in progress] == [4, 8, 11]
    for p, these in zip(progress, (every_step[:4], every_step[4:8], every_step[8:]), strict=True):
        for name in ("loss", "accuracy", "gradient_norm"):  # float32 sums in another order
            mean = np.mean([getattr(step, name) for step in these])
            assert getattr(p, name) == pytest.approx(mean, rel=1e-5), name
        assert p.bits_per_char == pytest.approx(p.loss / math.log(2))
        assert p.learning_rate == these[-1].learning_rate
        assert p.chars_seen == p.step * 3 * 7
    seconds = [0, *(p.seconds for p in progress)]
    for p, took in zip(progress, np.diff(seconds), strict=True):
        assert p.chars_per_second == pytest.approx((4 if p.step < 11 else 3) * 21 / took)


def test_the_same_seed_is_the_same_training():
    losses = [[p.loss for p in trained(seed=seed)[1]] for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_whoever_looks_in_between_changes_nothing():
    expected = [p.loss for p in trained(steps=12, every=3)[1]]
    model, config = model_of()
    losses = []
    for progress in loop.of_corpus(model, ids_of(), START, config, steps=12, every=3).figures():
        losses.append(progress.loss)
        held_out.carried(model, ids_of(50, seed=5), START)
        model.eval()
    assert losses == expected


def test_a_text_on_disk_is_trained_on_alike(tmp_path):
    (tmp_path / "ids").write_bytes(ids_of().tobytes())
    mapped = np.memmap(tmp_path / "ids", np.uint8, "r")
    assert [p.loss for p in trained(ids=mapped)[1]] == [p.loss for p in trained()[1]]
    assert (mapped == ids_of()).all()  # the start token is put into a copy


def test_the_average_is_told_of_every_step():
    model, config = model_of()
    average = Average(model.parameters(), steps=4)
    expected = [p.detach().clone() for p in model.parameters()]
    for _ in loop.of_corpus(model, ids_of(), START, config, steps=9, every=1, average=average).figures():
        for mean, p in zip(expected, model.parameters(), strict=True):
            mean.lerp_(p.detach(), 1 / 4)
    torch.testing.assert_close(average.averages, expected)
    model, config = model_of()
    seldom = Average(model.parameters(), steps=4)
    list(loop.of_corpus(model, ids_of(), START, config, steps=9, every=5, average=seldom).figures())
    torch.testing.assert_close(seldom.averages, expected)


@pytest.mark.parametrize("every", [1, 5])
def test_a_loss_that_is_no_number_ends_training(every):
    overrides = ["model.cell=rnn_relu", "train.lr=100", "train.clip=0", "train.warmup=0"]
    with pytest.raises(DivergedError, match=r"no finite number [3-7] times in a row before step \d+"):
        trained(*overrides, steps=100, every=every)


def test_in_bfloat16_the_weights_stay_float32():
    _, expected = trained(steps=8)
    try:
        model, progress = trained(steps=8, autocast=torch.bfloat16)
    except RuntimeError:
        pytest.skip("this machine has no LSTM kernel for bfloat16")
    assert all(p.dtype == torch.float32 for p in model.parameters())
    losses = [p.loss for p in progress]
    assert losses != [p.loss for p in expected]
    np.testing.assert_allclose(losses, [p.loss for p in expected], rtol=0.02)  # 8 bits of mantissa, 8 steps


def random_words(symbols, seed=0):
    """Ids of a text without a pattern but its 100 words: a letter each for 0 ... 25, a blank between."""
    random = np.random.default_rng(seed)
    words = [[*random.integers(26, size=random.integers(2, 8)), 26] for _ in range(100)]
    text = [letter for n in random.integers(100, size=symbols // 3) for letter in words[n]]
    return np.array(text[:symbols], np.uint8)


def test_ten_thousand_characters_are_learnt_by_heart():
    torch.set_num_threads(1)
    overrides = [*PLAIN, "model.embedding=16", "model.hidden=192", "train.batch=4", "train.window=50"]
    chosen = settings(*SMALL, *overrides)
    torch.manual_seed(0)
    model, ids = Model(chosen.model, 29), random_words(10_000)
    *_, last = loop.of_corpus(model, ids, 28, chosen.train, steps=1800, every=100).figures()
    assert last.loss < 0.05
    # as it is scored, too; what a stream knows of its beginning is lost where the streams are cut otherwise
    assert held_out.carried(model, ids, 28).nats < 0.05


F1, F2 = (speed.Choice("float32", n) for n in (1, 2))
B1, B2 = (speed.Choice("bfloat16", n) for n in (1, 2))
H1 = speed.Choice("float16", 1)


@pytest.mark.parametrize(
    ("seconds", "chosen", "step"),
    [
        ({F1: [1], F2: [0.95]}, F1, 1),  # worth another core only where it is clearly faster
        ({F1: [1], F2: [0.7]}, F2, 0.7),
        ({F1: [1], B1: [0.8]}, B1, 0.8),
        ({F1: [1], B1: [0.95]}, F1, 1),
        ({F1: [1], B1: [None]}, F1, 1),
        ({F1: [1], B1: [0.8], H1: [0.4]}, H1, 0.4),
        ({F1: [9], F2: [4], B1: [3], B2: [2.9]}, B1, 3),
        # what else the machine does makes most steps longer
        ({F1: [7, 1, 1, 5, 5], B1: [4, 4, 4, 4, 4]}, F1, 5),
        ({F1: [2, 3, 3, 3, 3], B1: [1, 6, 6, 6, 6]}, B1, 6),
        # and more so where threads wait for each other
        ({F1: [1, 1, 2, 2, 2], F2: [0.6, 0.6, 5, 5, 5]}, F1, 2),
    ],
)
def test_the_fastest_has_the_shortest_step_and_more_threads_the_shorter_median(
    monkeypatch, seconds, chosen, step
):
    times = {choice: cycle(taken) for choice, taken in seconds.items()}

    def of_step(training, choice, whole, _):
        assert whole == config.window / training.windows.args[2]
        return next(times[choice])

    monkeypatch.setattr(speed, "_step", of_step)
    model, config = model_of("train.window=16")
    found = speed.fastest(model, ids_of(), START, config, list(seconds), end=math.inf)
    assert found == (chosen, pytest.approx(step))


def test_a_short_step_is_measured_after_another_where_there_is_no_time():
    model, config = model_of("train.window=32")
    read = []
    model.register_forward_pre_hook(lambda _, inputs: read.append((len(inputs[0]), torch.get_num_threads())))
    choice, seconds = speed.fastest(model, ids_of(), START, config, [F1, F2], end=-math.inf)
    assert choice == F2
    assert read == [(2, 2), (2, 2)]
    assert seconds > 0
    torch.set_num_threads(1)


def test_what_the_first_step_takes_does_not_count(monkeypatch):
    model, config = model_of("train.window=32")
    now, slowness = 0.0, 100

    def reads(_, inputs):
        nonlocal now, slowness
        now += slowness * len(inputs[0])
        slowness = 1

    model.register_forward_pre_hook(reads)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now)
    _, seconds = speed.fastest(model, ids_of(), START, config, [F1], end=-math.inf)
    assert seconds == 32


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_optimizer_takes_as_long_for_a_part_of_a_window(monkeypatch, optimizer):
    model, config = model_of("train.window=32", f"train.optimizer={optimizer}")
    now, moved = 0.0, OPTIMIZERS[optimizer]._move

    def reads(_, inputs):
        nonlocal now
        now += len(inputs[0])

    def move(*given):
        nonlocal now
        now += 1000
        moved(*given)

    model.register_forward_pre_hook(reads)
    monkeypatch.setattr(OPTIMIZERS[optimizer], "_move", move)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now)
    _, seconds = speed.fastest(model, ids_of(), START, config, [F1], end=-math.inf)
    assert seconds == 1000 + 32


def test_measuring_leaves_the_random_numbers_as_they_were():
    model, config = model_of("train.averaging=0.1", "train.dropout.input=0.2")
    generator = torch.get_rng_state()
    _, seconds = speed.fastest(model, ids_of(), START, config, [F1], end=-math.inf)
    assert seconds > 0
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_long_text_is_trained_on_as_asked():
    config = settings("task=lm", "train.batch=32", "train.window=64").train
    assert recipe.for_corpus(config, 33 * 64 + 1) == config
    smaller = recipe.for_corpus(config, 33 * 64)
    assert (smaller.batch, smaller.window) == (31, 64)
    assert (recipe.for_corpus(config, 20).batch, recipe.for_corpus(config, 20).window) == (1, 9)


@at_most(max_examples=300)
@given(
    symbols=st.one_of(st.integers(2, 60), st.integers(2, 5000)),
    batch=st.integers(1, 600),
    window=st.integers(1, 600),
    seed=st.integers(0, 9),
)
def test_a_small_text_gets_fewer_streams_or_shorter_windows(symbols, batch, window, seed):
    config = SETTINGS.train
    wanted = type(config)(**(vars(config) | {"batch": batch, "window": window}))
    fitting = recipe.for_corpus(wanted, symbols)
    assert 1 <= fitting.batch <= batch
    assert 1 <= fitting.window <= window
    assert fitting.window == window or fitting.batch == 1  # windows are kept as long as there are streams
    for epoch in range(3):
        ids, cut = np.arange(symbols), {"start": None, "seed": seed, "epoch": epoch}
        first = windows.ShiftedStreams(ids, fitting.batch, fitting.window, **cut)[0]
        assert first.inputs.shape == (fitting.window, fitting.batch)
    assert recipe.for_corpus(fitting, symbols) == fitting


SETTINGS = settings(*SMALL)


def test_steps_are_counted():
    def steps(*overrides, symbols=1000, seconds=0.5, budget=None):
        clock = Clock(budget, now=lambda: 0.0)
        return recipe.steps_of(settings(*SMALL, *overrides).train, symbols, clock, seconds)

    assert steps("train.steps=7", budget=90) == 7
    assert steps(budget=90) == 144  # evaluations and the end take a fifth, about
    assert steps(seconds=3, budget=1) == 1
    assert steps("train.epochs=4") == 4 * (999 // 21)
    assert steps("train.epochs=4", symbols=5) == 4


def test_scores_take_a_share_of_the_training():
    config = settings(*SMALL, "train.batch=10", "train.window=100", "train.averaging=0.1").train
    assert recipe.sampled(config, 1000, times=5) == 0.4 * 1000 * 1000 / 10
    assert recipe.sampled(replace(config, averaging=0), 1000, times=5) == 0.4 * 1000 * 1000 / 5
    assert recipe.sampled(config, 1, times=5) == recipe.LEAST_SCORED


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [("90s", 90), ("15m", 900), ("2h", 7200), ("45", 45), ("1.5h", 5400), ("0.25s", 0.25), ("3.m", 180)],
)
def test_budgets(budget, seconds):
    assert Duration.seconds(settings("task=lm", f"train.budget='{budget}'").train.budget) == seconds


@pytest.mark.parametrize("budget", ["soon", "", "0s", "-1m", "5 m", "m", "1e3", "5d", "90s ", "1m30s", ".5h"])
def test_wrong_budgets(budget):
    wrong = re.escape(f"train.budget = {budget}: must be a time such as 90s, 15m or 2h")
    with pytest.raises(ValueError, match=wrong):
        settings("task=lm", f"train.budget='{budget}'")


def test_no_epoch_is_without_a_window():
    # a text that fit_corpus has made fit: 40 epochs of a window each
    model, config = model_of()
    config = recipe.for_corpus(config, 15)
    progress = list(islice(loop.of_corpus(model, ids_of(15), START, config, steps=40, every=1).figures(), 41))
    assert len(progress) == 40
