"""The training loop: windows -> new weights, step by step. Figures come out of it, and whoever asks for them
decides what becomes of them and when to stop."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from charlstm.cells.gates import STATE
from charlstm.config.settings import TrainConfig
from charlstm.model.torch_model import Model, State
from charlstm.text.vocabulary import Ids
from charlstm.training import losses, recipe
from charlstm.training.clock import Clock
from charlstm.training.graph import Recorded
from charlstm.training.muon import Muon
from charlstm.training.optimizer import AdamW, Average, LossScale, Optimizer, Step
from charlstm.training.processes import Order, Processes, shares
from charlstm.training.progress import Progress, Since
from charlstm.training.schedule import Settling, learning_rate
from charlstm.training.soap import Soap
from charlstm.training.threads import Threads
from charlstm.training.windows import Beside, ShiftedStreams, Window, windows_of

OPTIMIZERS: dict[str, type[Optimizer]] = {"adamw": AdamW, "soap": Soap, "muon": Muon}

# So many steps in a row whose loss or gradient is not finite are more than an accident.
TOO_MANY = {"skip": 3, "stop": 1}

PACE_STEPS = 10  # until so many are made, those that are missing are taken to last as was measured before

Windows = Callable[[int], Sequence[Window]]  # of an epoch, by its number, counted from 0


class DivergedError(ArithmeticError):
    """Numbers are no longer finite; training cannot go on from there."""


class Training:
    """Windows -> new weights.

    One pass over the windows is an epoch: the recurrent state is zero before the first and carried from each
    to the next, but for streams that begin anew. With `train.layout=segments` it is carried from epoch to
    epoch, too, and handed on from each stream to the next where that one began: as training settles, it
    becomes that of one continuous run.

    A step whose loss or gradient is not finite is skipped: weights, moments and state stay as they were. With
    a budget of the `clock`, training ends with its time: how many steps that makes is counted out anew after
    each, and so the learning rate becomes a function of the share of the time that is done.

    `processes` train together, each on its share of the streams, whose state it carries; the one of rank 0
    tells the others of each step."""

    def __init__(
        self,
        model: Model,  # trained in place; dropout draws from torch's own generator
        windows: Windows,
        config: TrainConfig,
        *,
        steps: int,  # at most, in all, from which the learning rate follows; with a pace, an estimate of them
        every: int | None = None,  # steps between two figures; None: an epoch
        average: Average | None = None,
        autocast: torch.dtype | None = None,  # of the matrix products; None: that of the weights
        clock: Clock | None = None,
        pace: float = 0.0,  # seconds that a step takes, as was measured beforehand; 0: it was not
        threads: Threads | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.model, self.config, self.every = model, config, every
        self.steps, self.most_steps = steps, 10**12 if pace else steps
        self.clock, self.pace = clock or Clock(), pace
        self.average, self.autocast, self.threads = average, autocast, threads
        self.device = next(model.parameters()).device
        # cuDNN's layers compute in float16 whatever type is asked of them
        is_float16 = autocast == torch.float16 or (autocast is not None and self.device.type == "cuda")
        scale = LossScale(self.device) if is_float16 else None
        self.optimizer = OPTIMIZERS[config.optimizer](model.named_parameters(), config, scale)
        self.processes = self.optimizer.processes = processes
        self.before_step: Callable[[], object] | None = None
        self.step = self.epoch = self.window = self.chars_seen = 0  # done; windows of the epoch
        # steps beyond those that the epochs done, or the time, would take with the windows of now; the
        # learning rate does not count them
        self.ahead = 0
        self.state: State | None = None  # after the last window; None: zero
        self.lr, self.lr_factor, self.seconds = config.peak_lr, 1.0, 0.0
        self.settling = Settling()  # with `train.decay=loss`
        self.windows = windows
        self._here: tuple[int, Sequence[Window]] | None = None  # the epoch that is read, and its windows
        self._recorded: dict[torch.dtype | None, Recorded] = {}  # steps, by their precision
        self.since = Since()
        self.sums = [0.0] * 6  # of loss, norm and characters right, then what to divide them by
        # how many steps in a row went wrong now and, since the last figures, at most; how many in all
        self.wrong = [0] * 3
        # steps that are not in these yet; on the device
        self._steps: list[tuple[tuple[Tensor, ...], tuple[int, ...]]] = []

    def figures(self, pause: Callable[[], bool] = lambda: False) -> Iterator[Progress | None]:
        """Train to the last step; yields the figures each time that they are due, and None where `pause`,
        asked after each step, says so in between. Raises DivergedError if too many steps in a row were not
        finite, or the plain engine computed what is not finite; that step is not made."""
        while self.step < self.steps:
            self.run(pause)
            yield self.take_figures() if self.is_due() else None

    def run(self, pause: Callable[[], bool] = lambda: False) -> None:
        """Train until figures are due, or until `pause` says so; otherwise as `figures`."""
        self.model.train()
        self._now = self.clock.now()
        try:
            while self.step < self.steps:
                if self.before_step is not None:
                    self.before_step()
                self.make_step(self._next_lr())
                seconds = self._tick()
                if self.threads is not None:
                    self.threads.took(seconds)
                self.plan_steps()
                if self.is_due() or pause():
                    break
        except FloatingPointError as error:  # the plain engine looks at what it computes
            raise DivergedError(f"{error}, in step {self.step + 1}") from None
        finally:
            self._count()
            self._tick()

    def plan_steps(self) -> None:
        """Count out how many steps there will be in the time that is left."""
        if self.clock.budget is None or not (pace := self._seconds_per_step()):
            return
        left = max(math.ceil(self.clock.left() / pace), 0 if self.step else 1)
        self.steps = min(self.step + left, self.most_steps)
        if self.average is not None and self.config.averaging:
            self.average.span(self.config.averaging * self.steps)

    @property
    def share(self) -> float:
        """How much of the training is done, 0 to 1: of its steps or, with a budget, of its time."""
        return min(self.step / self.steps, 1.0)

    @property
    def seconds_left(self) -> float | None:
        """Until training ends: by the budget or, about, by the steps; None before the first step."""
        pace = self._seconds_per_step()
        steps = max(self.steps - self.step, 0) * pace if pace else math.inf
        left = max(min(steps, self.clock.left()), 0.0)
        return left if math.isfinite(left) else None

    def _seconds_per_step(self) -> float:
        """On average so far; 0: nothing is known."""
        missing = max(PACE_STEPS - self.step, 0) if self.pace else 0
        return (self.seconds + missing * self.pace) / max(self.step + missing, 1)

    def is_due(self) -> bool:
        return self.step == self.steps or (self.window if self.every is None else self.step % self.every) == 0

    def take_figures(self) -> Progress | None:
        """The figures since the last ones; None if no step was made. DivergedError if too many went wrong."""
        loss, norm, correct, weight, chars, made = self.sums
        in_a_row, most, skipped = self.wrong
        # the last figures may not be missing: who handles them may have something to do at the end
        if most >= TOO_MANY[self.config.on_nonfinite] or (not made and self.step >= self.steps):
            times = f" {most} times in a row" if most > 1 else ""
            raise DivergedError(
                f"the loss or a gradient was no finite number{times} before step {self.step + 1}"
            )
        if not made:
            return None
        since, self.since = self.since, Since()
        self.sums, self.wrong = [0.0] * 6, [in_a_row, in_a_row, 0]
        nats = loss / weight
        self.settling.update(since.lowered / weight if self.config.loss == "focal" else nats)
        return Progress(
            epoch=self.epoch,
            step=self.step,
            chars_seen=self.chars_seen,
            seconds=self.seconds,
            loss=nats,
            bits_per_char=nats / math.log(2) if self.config.loss != "mse" else None,
            accuracy=correct / chars,
            chars_per_second=since.chars / since.seconds,
            learning_rate=self.lr,
            gradient_norm=norm / made,
            skipped=skipped,
        )

    def _next_lr(self) -> float:
        lr = learning_rate(self.step - self.ahead, self.steps - self.ahead, self.config) * self.lr_factor
        if self.config.decay == "loss":
            lr *= self.settling.factor
        if self.processes is not None:
            self.processes.tell(Order.STEP, lr, self.average.weight if self.average is not None else 0.0)
        return lr

    def make_step(self, lr: float) -> None:
        """Train on the next window."""
        if self._here is None or self._here[0] != self.epoch:
            self._here = self.epoch, self.windows(self.epoch)
        windows = self._here[1]
        window = windows[self.window]
        size = len(window.targets), window.targets.shape[1] - window.beside
        if self.processes is not None:
            window = window.of(self.processes.share(size[1]))
        if self.state is not None and window.anew is not None and window.anew.any():
            kept = torch.from_numpy(~window.anew).to(self.device)
            self.state = tuple(part.where(kept[:, None], 0) for part in self.state)
        self.lr = lr if math.isfinite(lr) else self.lr  # a step with any other is not made
        self.optimizer.products = self.autocast
        is_usual = window.handover is None and not window.beside
        learn = self._replay if self.is_repeated and is_usual else self._learn
        step, after = learn(self.on_device(window), lr, self.state)
        if self.average is not None:
            self.average.update()
        with torch.no_grad():
            if self.processes is None or self.processes.rank == 0:
                self._steps.append(((step.norm, step.made, step.wrong, *step.figures), size))
            before = self.state or tuple(torch.zeros_like(part) for part in after)
            before = before if window.handover is None else handed_on(before, window.beside)
            self.state = tuple(
                torch.where(step.made, new, old) for new, old in zip(after, before, strict=True)
            )
        self.step += 1
        self.window += 1
        self.chars_seen += math.prod(size)
        self.since.steps += 1
        self.since.chars += math.prod(size)
        if self.window == len(windows):
            self.epoch, self.window = self.epoch + 1, 0
            if self.config.layout != "segments":
                self.state = None

    def on_device(self, window: Window) -> Window:
        """The same with tensors in place of ids."""
        inputs, targets = (torch.from_numpy(ids.astype("int64")).to(self.device) for ids in window[:2])
        return window._replace(inputs=inputs, targets=targets)

    def _learn(self, window: Window, lr: float | Tensor, state: State | None) -> tuple[Step, State]:
        """A step of the optimizer on a window on the device; the state after it."""
        held, afters, parts = list[Tensor](), list[State](), self.config.accumulate
        T, B = window.targets.shape
        for some in shares(B, parts):
            before = state and tuple(part[:, some].contiguous() for part in state)
            of_both, told, after = self.forward(window if parts == 1 else window.of(some), before)
            afters.append(tuple(part.detach() for part in after))  # gradients stop at a window's border
            if len(afters) < parts:
                held = self.optimizer.added(held, of_both, *told)
        if self.config.loss == "hardest" and told[1] == T * (B - window.beside):
            lr *= 0.01  # the scores hardly differ between two steps; what is just right is not to be shaken
        step = self.optimizer.step(of_both, lr, *told, held=held, parts=parts)
        return step, tuple(torch.cat(parts, dim=1) for parts in zip(*afters, strict=True))

    @property
    def is_repeated(self) -> bool:
        """Whether each step starts the same kernels, on a GPU, so that it can be recorded."""
        config, is_alone = self.config, self.processes is None and self.config.accumulate == 1
        is_same = config.optimizer != "soap" and config.loss != "hardest"
        return self.device.type == "cuda" and self.model.config.engine == "fused" and is_same and is_alone

    def _replay(self, window: Window, lr: float, state: State | None) -> tuple[Step, State]:
        """`_learn` as a CUDA graph."""

        def learn(inputs: Tensor, targets: Tensor, lr: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
            step, after = self._learn(Window(inputs, targets), lr, state)
            return step.norm, step.made, step.wrong, *step.figures, *after

        config, tensors = self.model.config, (*window[:2], torch.full((), lr, device=self.device))
        shape = config.layers, window.targets.shape[1], config.width
        state = state or tuple(torch.zeros(shape, device=self.device) for _ in STATE[config.cell])
        recorded = self._recorded.setdefault(self.autocast, Recorded(learn))
        norm, made, wrong, *others = recorded(*tensors, *state)
        return Step(norm, made, wrong, tuple(others[: -len(state)])), tuple(others[-len(state) :])

    def forward(self, window: Window, state: State | None) -> tuple[Tensor, tuple[Tensor, Tensor], State]:
        """The loss of a window on the device after a state; its figures, loss and characters right; the state
        after it."""
        inputs, targets, handover, _, beside = window
        is_mixed = self.autocast is not None
        with torch.autocast(self.device.type, self.autocast) if is_mixed else nullcontext():
            scores, after = self.model(inputs[:handover], state)
            if handover is not None:
                after = handed_on(after, beside)
                if handover < len(inputs):
                    others, after = self.model(inputs[handover:], after)
                    scores = torch.cat([scores, others])
        scores = scores[-len(targets) :]  # what comes before the first target is only read
        scores = scores.float() if is_mixed else scores
        name = self.config.loss
        loss = of_both = losses.LOSSES[name](scores, targets)
        if beside:  # figures are of the text that is to be learnt
            scores, targets = scores[:, :-beside], targets[:, :-beside]
        if beside or name in ("focal", "hardest"):  # and means
            usual = "mse" if name == "mse" else "cross_entropy"
            loss = losses.LOSSES[usual](scores.detach(), targets)
        return of_both, (loss.detach(), losses.correct(scores, targets)), after

    def _tick(self) -> float:
        """Take in the time that passed; returns its seconds."""
        before, self._now = self._now, self.clock.now()
        self.seconds += self._now - before
        self.since.seconds += self._now - before
        return self._now - before

    def _count(self) -> None:
        """Add the steps up; the one place where the device is waited for."""
        for step, shape in self._steps:
            norm, made, wrong, lowered, loss, correct = (figure.item() for figure in step)
            correct *= self.config.accumulate * (self.processes.size if self.processes else 1)
            if made:
                T, chars = shape[0], math.prod(shape)
                for k, figure in enumerate((loss * T, norm, correct, T, chars, 1)):
                    self.sums[k] += figure
                self.since.lowered += lowered * T
            in_a_row, most, in_all = self.wrong
            in_a_row = in_a_row + 1 if wrong else 0
            self.wrong = [in_a_row, max(most, in_a_row), in_all + int(wrong)]
        self._steps.clear()


def handed_on(state: State, beside: int = 0) -> State:
    """Each stream's state `(L, B, H)` given to the next; the first gets 0, the last `beside` keep theirs."""
    last = state[0].shape[1] - beside
    parts = ((torch.zeros_like(part[:, :1]), part[:, : last - 1], part[:, last:]) for part in state)
    return tuple(torch.cat(one, dim=1) for one in parts)


def of_text(
    model: Model,
    text: Ids,
    config: TrainConfig,
    clock: Clock | None = None,
    beside: tuple[Ids, int] | None = None,
    seed: int = 0,
) -> Training:
    """`train.epochs` epochs on the windows of `text (N,)`, cut as `train.layout` says; figures of each.
    `beside` and its `seed` are as for `of_corpus`."""
    config = recipe.for_text(config, len(text), model.config.width)
    windows = _with_beside(windows_of(text, config), beside, None, seed)
    return Training(model, windows, config, steps=config.epochs * len(windows(0)), clock=clock)


def _with_beside(windows: Windows, beside: tuple[Ids, int] | None, start: int | None, seed: int) -> Windows:
    return windows if beside is None else lambda epoch: Beside(windows(epoch), *beside, start, seed, epoch)


def of_corpus(
    model: Model,
    ids: Ids,
    start: int | None,
    config: TrainConfig,
    *,
    seed: int = 0,
    beside: tuple[Ids, int] | None = None,
    **others: Any,
) -> Training:
    """Training on the `ShiftedStreams` of a corpus, `ids (N,)`, long enough for `recipe.for_corpus` to leave
    `config` as it is; `beside` are ids of another text, and how many streams of it are trained on, too."""
    windows = partial(ShiftedStreams, ids, config.batch, config.window, start, seed)
    return Training(model, _with_beside(windows, beside, start, seed), config, **others)
