"""Would the tests notice? Breaks the project on purpose, one line at a time, and runs the tests.

    python -m benchmarks.mutations              the whole table below
    python -m benchmarks.mutations torch page   the rows with one of these words in their name
    python -m benchmarks.mutations check        only whether each row's text is there exactly once

The table is ours because mutmut and cosmic-ray make mutants of their own, by operators on Python's syntax,
and take none that is written down beside the tests that must notice it.

Each mutation is made in a fresh copy of the project in a temporary folder; beside it is printed the first
test that fails for it. The exit code is 1 if a mutation survives, if the text that it replaces is not there
exactly once, or what replaces it leaves no Python, or if its tests do not run or fail without any mutation.
"""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "outputs", "multirun")


class Mutation(NamedTuple):
    """`old` becomes `new` in `file`; then one of `tests` (what pytest takes, blanks between) must fail."""

    name: str
    file: str
    tests: str
    old: str
    new: str


# file and tests
NUMPY = ("charlstm/cells/numpy_cells.py", "tests/cells/test_numpy_cells.py")
TORCH = ("charlstm/cells/torch_cells.py", "tests/cells/test_torch_cells.py")
LAYERS_NUMPY = ("charlstm/cells/layers.py", "tests/cells/test_numpy_cells.py")
LAYERS_TORCH = ("charlstm/cells/layers.py", "tests/cells/test_torch_cells.py")
GATES = ("charlstm/cells/gates.py", "tests/cells/test_gates.py")
CHECKPOINT = ("charlstm/checkpoint.py", "tests/test_checkpoint.py")
HOSTILE = ("charlstm/checkpoint.py", "tests/test_hostile_checkpoints.py")
STATE = ("charlstm/state.py", "tests/test_hostile_checkpoints.py")
HOSTILE_ARRAYS = ("charlstm/tensors.py", "tests/test_hostile_checkpoints.py")
FILES = ("charlstm/files.py", "tests/soak/test_reliability.py -k crashes")
FILES_ERRORS = ("charlstm/files.py", "tests/soak/test_reliability.py -k errors")
PAGE = ("docs/recurrence.md", "tests/commands/test_docs.py")
SNAPSHOT = ("charlstm/runs/snapshot.py", "tests/runs/test_snapshot.py")
SAVING = ("charlstm/runs/saving.py", "tests/runs/test_saving.py")
DIRECTORY = ("charlstm/runs/directory.py", "tests/runs/test_directory.py")
TRACKER = ("charlstm/runs/tracker.py", "tests/runs/test_tracker.py")
INSIDE = ("charlstm/runs/inside.py", "tests/runs/test_inside.py")
SWEEP = "tests/commands/test_sweep.py"
SESSION = "tests/runs/test_run.py -k curves"
LM = ("charlstm/training/loop.py", "tests/training/test_streams.py -k what_it_says")
OPTIMIZER = ("charlstm/training/optimizer.py", "tests/training/test_optimizer.py")
SOAP = ("charlstm/training/soap.py", "tests/training/test_optimizer.py")
MUON = ("charlstm/training/muon.py", "tests/training/test_muon.py")
SCHEDULE = ("charlstm/training/schedule.py", "tests/training/test_schedule.py")
UNITS = ("charlstm/scoring/units.py", "tests/scoring/test_units.py")
DOCUMENT = ("charlstm/page/document.py", "tests/page/test_document.py")
IN_BROWSER = "tests/page/test_page.py"
CAPACITY = ("charlstm/limits/capacity.py", "tests/limits/test_search.py")
COPYING = ("charlstm/tasks/copying.py", "tests/tasks/test_copying.py")
BATCHES = ("charlstm/training/windows.py", "tests/training/test_windows.py")
BY_HEART = ("charlstm/training/recipe.py", "tests/training/test_windows.py")
RECIPE = ("charlstm/training/recipe.py", "tests/training/test_recipe.py")
INITIAL = ("charlstm/runs/initial.py", "tests/runs/test_initial.py")
TRAINER = ("charlstm/training/loop.py", "tests/training/test_loop.py")

MUTATIONS = [
    Mutation("numpy lstm: swap two gates", *NUMPY, "i_pre, f_pre, g_pre", "f_pre, i_pre, g_pre"),
    Mutation("numpy lstm: drop the forget gate", *NUMPY, "c = f * c + i * g", "c = c + i * g"),
    Mutation(
        "numpy lstm: drop a bias",
        *NUMPY,
        "    pre = affine(x, weight_ih, bias_ih)",
        "    pre = affine(x, weight_ih, None)",
    ),
    Mutation("numpy gru: swap two gates", *NUMPY, "r_in, z_in, n_in", "z_in, r_in, n_in"),
    Mutation("numpy gru: drop the reset gate", *NUMPY, "n_in + r * n_rec", "n_in + n_rec"),
    Mutation(
        "numpy rnn: drop a bias",
        *NUMPY,
        "a_pre = affine(x, weight_ih, bias_ih)",
        "a_pre = affine(x, weight_ih, None)",
    ),
    Mutation(
        "numpy: forget to reverse back", *LAYERS_NUMPY, "zip(output, backward[::-1]", "zip(output, backward"
    ),
    Mutation(
        "numpy: share a layer's weights",
        *LAYERS_NUMPY,
        "states[k], weights[k]",
        "states[k], weights[min(k, 1)]",
    ),
    Mutation(
        "numpy: share a direction's weights",
        *LAYERS_NUMPY,
        "states[k + 1], weights[k + 1]",
        "states[k + 1], weights[k]",
    ),
    Mutation(
        "numpy: sigmoid that overflows",
        *NUMPY,
        "0.5 * np.tanh(np.multiply(x, 0.5)) + 0.5",
        "1 / (1 + np.exp(np.negative(x)))",
    ),
    Mutation(
        "numpy: start from zeros in any case", *NUMPY, "if state is None else state", "if True else state"
    ),
    Mutation("numpy: return what is not finite", *NUMPY, "check_finite(self.cell, output, *final)", "pass"),
    Mutation("torch lstm: swap two gates", *TORCH, "i, f, g, o = (affine", "f, i, g, o = (affine"),
    Mutation("torch lstm: drop the forget gate", *TORCH, "c = f * c + i * g", "c = c + i * g"),
    Mutation("torch lstm: drop a bias", *TORCH, "bias_hh)).chunk(4", "None)).chunk(4"),
    Mutation("torch gru: swap two gates", *TORCH, "r_in, z_in, n_in", "z_in, r_in, n_in"),
    Mutation("torch gru: drop the reset gate", *TORCH, "n_in + r * n_rec", "n_in + n_rec"),
    Mutation(
        "torch rnn: drop a bias",
        *TORCH,
        "activation(affine(x, weight_ih, bias_ih)",
        "activation(affine(x, weight_ih, None)",
    ),
    Mutation(
        "torch: forget to reverse back", *LAYERS_TORCH, "zip(output, backward[::-1]", "zip(output, backward"
    ),
    Mutation(
        "torch: share a layer's weights",
        *LAYERS_TORCH,
        "states[k], weights[k]",
        "states[k], weights[min(k, 1)]",
    ),
    Mutation(
        "torch: share a direction's weights",
        *LAYERS_TORCH,
        "states[k + 1], weights[k + 1]",
        "states[k + 1], weights[k]",
    ),
    Mutation(
        "torch: cut the gradient through time",
        *LAYERS_TORCH,
        "state = step(x_t, state, *weights)",
        "state = step(x_t, tuple(s.detach() for s in state), *weights)",
    ),
    Mutation("torch: other initial weights", *TORCH, "hidden_size**-0.5", "self.input_size**-0.5"),
    Mutation(
        "gates: another order",
        *GATES,
        '"input", "forget", "cell", "output"',
        '"input", "forget", "output", "cell"',
    ),
    Mutation("checkpoint: no fsync of the file", *FILES, "os.fsync(file.fileno())", "pass"),
    Mutation("checkpoint: no fsync of the directory", *FILES, "os.fsync(directory)", "pass"),
    Mutation(
        "checkpoint: replace by copy",
        *FILES,
        "temporary.replace(path)",
        "path.write_bytes(temporary.read_bytes()), temporary.unlink()",
    ),
    Mutation("checkpoint: write in place", *FILES, 'temporary.open("xb")', 'path.open("wb")'),
    Mutation("checkpoint: keep an error silent", *FILES_ERRORS, "        raise\n", "        return\n"),
    Mutation(
        "checkpoint: leave the temporary file", *FILES_ERRORS, "temporary.unlink(missing_ok=True)", "pass"
    ),
    Mutation(
        "checkpoint: no hash check", *CHECKPOINT, "if _digest(blob, at) != bytes(blob[at]):", "if False:"
    ),
    Mutation(
        "checkpoint: hash without the metadata",
        *CHECKPOINT,
        "digest.update(view[at.stop :])",
        'digest.update(view[8 + int.from_bytes(blob[:8], "little") :])',
    ),
    Mutation(
        "checkpoint: use it before the hash",
        *HOSTILE,
        "    if _digest(blob, at) !=",
        "    unpack(blob)\n    if _digest(blob, at) !=",
    ),
    Mutation("checkpoint: no shape check", *STATE, " or not fits", ""),
    Mutation("checkpoint: no dtype check", *STATE, "array.dtype.str[1:] != dtype or ", ""),
    Mutation("checkpoint: let NaN pass", *STATE, "not np.isfinite(array).all()", "False"),
    Mutation(
        "checkpoint: wait for a pipe", "charlstm/files.py", HOSTILE[1], ' | getattr(os, "O_NONBLOCK", 0)', ""
    ),
    Mutation(
        "checkpoint: let arrays overlap", *HOSTILE_ARRAYS, "    spans.sort()\n    if", "    if False and"
    ),
    Mutation("checkpoint: take names twice", *HOSTILE_ARRAYS, "len(values) != len(pairs)", "False"),
    Mutation(
        "checkpoint: do not read it back",
        "charlstm/checkpoint.py",
        "tests/runs/test_directory.py",
        "        _compare(fresh, blob)\n",
        "",
    ),
    Mutation("directory: take one with other files", *DIRECTORY, "if names and not is_own", "if False"),
    Mutation("sweep: believe a changed text", "charlstm/cli/train.py", SWEEP, " != plan.data:", " is None:"),
    Mutation(
        "sweep: check no run before the first",
        "charlstm/cli/command_line.py",
        SWEEP,
        'check([*overrides, "check=false"])',
        "pass",
    ),
    Mutation(
        "sweep: leave its processes alone",
        "charlstm/runs/signals.py",
        f"{SWEEP} -k killed",
        "threading.Thread(target=watch, daemon=True).start()",
        "pass",
    ),
    Mutation(
        "sweep: stop, and let its processes go on",
        "charlstm/cli/sweep.py",
        f"{SWEEP} -k stopped",
        "then=partial(going.unlink, missing_ok=True)",
        "",
    ),
    Mutation(
        "sweep: begin what nobody wants any more",
        "charlstm/cli/sweep.py",
        f"{SWEEP} -k stopped",
        "if is_wanted():",
        "if True:",
    ),
    Mutation("sweep: do all again", "charlstm/cli/sweep.py", SWEEP, "if is_done else", "if False else"),
    Mutation(
        "sweep: read conf/ for each run",
        "charlstm/config/compose.py",
        SWEEP,
        "if str(path) not in self.mine",
        "if True",
    ),
    Mutation(
        "sweep: cut texts up",
        "charlstm/config/compose.py",
        SWEEP,
        "else several and SEVERAL.fullmatch(value)",
        "else several",
    ),
    Mutation(
        "latest: the run that was saved first",
        "charlstm/cli/arguments.py",
        "tests/cli/test_command_line.py -k latest",
        '= latest")[-1]',
        '= latest")[0]',
    ),
    Mutation("page: one digit", *PAGE, "array([-0.2769, -0.0027])", "array([-0.2769, -0.0028])"),
    # sizes by the text
    Mutation("recipe: as wide whatever the text", *RECIPE, "math.sqrt(symbols / 130_000)", "1.0"),
    Mutation("recipe: what is given is not taken", *RECIPE, 'attrgetter(key)(settings) == "auto"', "key"),
    Mutation("recipe: no more dropout for more passes", *RECIPE, "dropout * doublings", "dropout * 2"),
    Mutation("recipe: AdamW for wide nets, too", *RECIPE, "hidden >= MUON_HIDDEN", "False"),
    Mutation("recipe: no weight decay", *RECIPE, "decay * doublings", "0 * doublings"),
    Mutation("recipe: what fills the net by Muon, too", *BY_HEART, "and bits < ROOM * parameters", ""),
    Mutation("recipe: narrow nets by Muon, too", *BY_HEART, "hidden >= BY_HEART_HIDDEN and", ""),
    Mutation("recipe: steps of Muon take no longer", *RECIPE, "2 * hidden / chars * is_muon", "0"),
    # learning by heart
    Mutation(
        "soap: eigenvectors stay",
        *SOAP,
        "torch.linalg.qr(covariance @ basis[:, order]).Q",
        "basis[:, order]",
    ),
    Mutation(
        "soap: variances stay in the old order",
        *SOAP,
        "second.copy_(second.index_select(side, order))",
        "pass",
    ),
    Mutation(
        "soap: swap the covariances",
        *SOAP,
        "gradient @ gradient.T if side == 0 else gradient.T @ gradient",
        "gradient.T @ gradient if side == 0 else gradient @ gradient.T",
    ),
    Mutation(
        "weight_bits: a step moves what is rounded",
        *OPTIMIZER,
        "torch._foreach_copy_(self.parameters, self.exact)",
        "pass",
    ),
    Mutation(
        "weight_bits: a weight more than there is room for",
        *OPTIMIZER,
        "/ (2 ** (bits - 1) - 1)",
        "/ 2 ** (bits - 1)",
    ),
    Mutation(
        "weight_bits: Muon's AdamW rounds, too",
        *("charlstm/training/muon.py", "tests/training/test_optimizer.py"),
        "own = replace(self.config, weight_bits=None)",
        "own = replace(self.config)",
    ),
    Mutation(
        "weight_bits: what is rounded from now on begins anew",
        *SNAPSHOT,
        'named.get(name.removeprefix("exact/"), tensor)',
        "tensor",
    ),
    Mutation(
        "focal: weights not squared",
        "charlstm/training/losses.py",
        "tests/training/test_losses.py",
        "(1 - torch.exp(-each.detach())).square()",
        "(1 - torch.exp(-each.detach()))",
    ),
    Mutation(
        "focal: the rate falls with the mean all the same",
        "charlstm/training/loop.py",
        "tests/training/test_schedule.py -k lowers",
        'since.lowered / weight if self.config.loss == "focal" else nats',
        "nats",
    ),
    Mutation(
        "hardest: hardly more than the mean",
        "charlstm/training/losses.py",
        "tests/training/test_losses.py",
        "5 * each.detach().mean()",
        "5000 * each.detach().mean()",
    ),
    Mutation(
        "chrono: input gates as open as ever",
        "charlstm/model/torch_model.py",
        "tests/model/test_torch_model.py -k chrono",
        ".sub_(logs)",
        ".sub_(0 * logs)",
    ),
    Mutation(
        "muon: all gates of a layer are one matrix",
        *MUON,
        "shape = hidden[layer_of(name)]",
        "shape = len(named[name])",
    ),
    Mutation("muon: no look ahead", *MUON, "gradient.add_(momentum, alpha=self.MOMENTUM)", "momentum"),
    Mutation("muon: the same step for all shapes", *MUON, "0.2 * max(shape) ** 0.5", "0.2"),
    Mutation("muon: no weight decay", *MUON, "1 - rate * self.weight_decay", "1 - 0 * rate"),
    Mutation(
        "muon: one norm for all gates",
        *MUON,
        "torch.linalg.matrix_norm(A, keepdim=True)",
        "A.norm()",
    ),
    Mutation("muon: a polynomial less", *MUON, "enumerate(POLYNOMIALS)", "enumerate(POLYNOMIALS[:2])"),
    Mutation(
        "muon: gradients that are not finite",
        *MUON,
        ".masked_fill_(stay, 0)\n            #",
        "\n            #",
    ),
    Mutation("muon: decay the momentum of a step not made", *MUON, ".masked_fill_(stay, 1)", ""),
    Mutation(
        "muon: a rate that is not finite",
        *MUON,
        "device=stay.device).masked_fill(stay, 0)",
        "device=stay.device)",
    ),
    Mutation("muon: products in the weights' dtype", *MUON, ".to(products or X.dtype)", ""),
    Mutation(
        "precision: one scale for a matrix",
        *OPTIMIZER,
        "amax(-1, keepdim=True)",
        "amax()",
    ),
    Mutation("soap: the first step moves", *SOAP, "if step > 1:\n", "if step > 0:\n"),
    Mutation(
        "segments: borders stay", *BATCHES, "GOLDEN_RATIO = (math.sqrt(5) - 1) / 2", "GOLDEN_RATIO = 0.0"
    ),
    Mutation("segments: never handed on", *BATCHES, "left if left <= len(steps) else None", "None"),
    Mutation(
        "segments: cut the gradient where they are handed on",
        *TRAINER,
        "after = handed_on(after, beside)",
        "after = handed_on(tuple(part.detach() for part in after), beside)",
    ),
    Mutation(
        "segments: a step that is not made hands nothing on",
        *TRAINER,
        "before if window.handover is None else handed_on(before, window.beside)",
        "before",
    ),
    Mutation("init: a usual value that was typed is replaced", *INITIAL, "key in typed or ", ""),
    Mutation(
        "init: new characters begin at zero", *INITIAL, "rows[:known].mean(0, keepdims=True)", "0 * rows[:1]"
    ),
    Mutation("init: a known character gets another's row", *INITIAL, "= rows[:known]\n", "= rows[:1]\n"),
    Mutation("decay by the loss: no root", *SCHEDULE, "math.sqrt(self.lowest)", "self.lowest"),
    Mutation(
        "decay by the loss: to nothing",
        *SCHEDULE,
        "max(self.SHRINK * self.shrunk, self.LEAST)",
        "self.SHRINK * self.shrunk",
    ),
    Mutation("decay by the loss: rise again", *SCHEDULE, "min(self.lowest, loss)", "min(1.0, loss)"),
    Mutation(
        "limit: natural logarithms",
        *CAPACITY,
        "self.length * math.log2(self.symbols) if",
        "self.length * math.log(self.symbols) if",
    ),
    Mutation(
        "units: only what grows is telling", *UNITS, "np.argsort(-np.abs(of_units)", "np.argsort(-of_units"
    ),
    Mutation("page: a text may end the script", *DOCUMENT, '.replace("<", "\\\\u003c")', ""),
    Mutation(
        "page: the forget gate is the input gate",
        "charlstm/page/cells.js",
        IN_BROWSER,
        "= f[k] * c[k]",
        "= i[k] * c[k]",
    ),
    Mutation(
        "page: a read text does not begin anew",
        "charlstm/page/model.js",
        IN_BROWSER,
        "else model.reset();",
        "",
    ),
    Mutation("limit: one failure ends it", *CAPACITY, "(longest + 1, longest + 2)", "(longest + 1,)"),
    Mutation("copy: read the true symbols", *COPYING, "stepper(written)", "stepper(wanted)"),
    Mutation("copy: believe the examination", *COPYING, "if share >= PASSED:", "if share >= 0:"),
    # what a run goes on from
    Mutation(
        "resume: no hidden state",
        *SNAPSHOT,
        "part for k, part in enumerate(training.state or ())",
        "0 * part for k, part in enumerate(training.state or ())",
    ),
    Mutation(
        "resume: no generator",
        *SNAPSHOT,
        'torch.set_rng_state(arrays.get(f"generator{own}", torch.get_rng_state()))',
        "pass",
    ),
    Mutation(
        "resume: no average", *SNAPSHOT, 'copy_(arrays.get(f"average/{name}", parameter))', "copy_(parameter)"
    ),
    Mutation(
        "resume: no moments",
        *SNAPSHOT,
        'tensor.copy_(arrays.get(name, named.get(name.removeprefix("exact/"), tensor)))',
        "pass",
    ),
    Mutation(
        "resume: forget how far the rate has fallen",
        *SNAPSHOT,
        "        setattr(training, name, copy",
        '        if name != "settling":\n            setattr(training, name, copy',
    ),
    Mutation(
        "resume: forget the position in the epoch",
        *SNAPSHOT,
        "        setattr(training, name, copy",
        '        if name != "window":\n            setattr(training, name, copy',
    ),
    Mutation(
        "resume: forget the learning rate's position",
        *SNAPSHOT,
        "        setattr(training, name, copy",
        '        if name != "step":\n            setattr(training, name, copy',
    ),
    Mutation(
        "budget: nothing is reserved for the end",
        "charlstm/training/clock.py",
        "tests/training/test_clock.py",
        "self.budget - self.reserve - self.spent()",
        "self.budget - self.spent()",
    ),
    Mutation(
        "budget: forget what was spent before",
        "charlstm/tasks/table.py",
        "tests/runs/test_resume.py -k clock",
        "before.driver.spent or before.numbers.seconds",
        "0.0",
    ),
    Mutation(
        "resume: drop pending figures",
        "charlstm/runs/run.py",
        "tests/runs/test_saving.py",
        "self._pending = state.driver.pending",
        "self._pending = None",
    ),
    Mutation(
        "resume: keep a skipped step's state",
        "charlstm/training/loop.py",
        "tests/runs/test_saving.py",
        "torch.where(step.made, new, old)",
        "new",
    ),
    Mutation("resume: save what is not finite", *SAVING, "if not state.is_finite():", "if False:"),
    Mutation(
        "resume: count what went wrong before the return",
        *SAVING,
        "self._training.wrong = [0, 0, 0]",
        "pass",
    ),
    Mutation(
        "resume: curves after the state", "charlstm/runs/run.py", SESSION, "self.tracker.flush()", "pass"
    ),
    Mutation(
        "resume: a run begins without a mark",
        "charlstm/runs/tracker.py",
        SESSION,
        "purge_step=self._from_step)",
        "purge_step=self._from_step or None)",
    ),
    Mutation(
        "tensorboard: two rows of a run that was resumed",
        *TRACKER,
        "            path.unlink()\n",
        "            pass\n",
    ),
    Mutation(
        "tensorboard: units in no order",
        *INSIDE,
        "chosen = sorted(most.tolist(), key=",
        "chosen = (lambda units, key: units)(most.tolist(), key=",
    ),
    Mutation(
        "tensorboard: a frame around what was read",
        *INSIDE,
        "enumerate(ids[1:].tolist())",
        "enumerate(ids[:-1].tolist())",
    ),
    Mutation("tensorboard: the fence of a text ends in it", *TRACKER, "2 + max(map(len", "2 + min(map(len"),
    Mutation(
        "resume: rotate before it is verified",
        "charlstm/checkpoint.py",
        "tests/runs/test_directory.py",
        "        _compare(fresh, blob)\n        ready()\n",
        "        ready()\n        _compare(fresh, blob)\n",
    ),
    Mutation(
        "resume: rotate before it is saved",
        *DIRECTORY,
        "    checkpoint.save(trained, last, keep_the_one_before)\n",
        "    keep_the_one_before()\n    checkpoint.save(trained, last)\n",
    ),
    Mutation(
        "resume: take no lock", *DIRECTORY, "fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass"
    ),
    # training itself
    Mutation(
        "train: score on the model that is trained",
        "charlstm/tasks/language_model_run.py",
        "tests/tasks/test_language_model.py -k better_of_weights",
        "copy.deepcopy(training.model)",
        "training.model",
    ),
    Mutation(
        "train: dropout left on in evaluation",
        "charlstm/scoring/held_out.py",
        "tests/scoring/test_held_out.py -k dropout",
        "    model.eval()\n",
        "    model.train()\n",
    ),
    Mutation(
        "train: reset the state at each window",
        *LM,
        "self.model(inputs[:handover], state)",
        "self.model(inputs[:handover], None)",
    ),
    Mutation(
        "train: targets off by one",
        *BATCHES,
        "inputs, targets = text[:-1].copy(), text[1:]",
        "inputs, targets = text[:-1].copy(), text[:-1]",
    ),
    Mutation(
        "train: a start token in the middle",
        "charlstm/training/windows.py",
        "tests/training/test_windows.py -k anew",
        "inputs[0, anew] = self._start",
        "inputs[0] = self._start",
    ),
    Mutation(
        "train: a beginning with the state of before",
        *LM,
        "part.where(kept[:, None], 0)",
        "part.where(kept[:, None], part)",
    ),
    Mutation(
        "score: streams that do not continue one another",
        "charlstm/scoring/held_out.py",
        "tests/scoring/test_held_out.py -k lost",
        "ends[-1][:, :-1]) > AGREEMENT)",
        "ends[-1][:, :-1]) > 1e9)",
    ),
    Mutation(
        "score: what was lost goes on as it was first read",
        "charlstm/scoring/held_out.py",
        "tests/scoring/test_held_out.py -k lost",
        "ends[k][:, left]) > AGREEMENT)",
        "ends[k][:, left]) > 1e9)",
    ),
    Mutation(
        "score: all is read again to its end",
        "charlstm/scoring/held_out.py",
        "tests/scoring/test_held_out.py -k goes_on",
        "ends[k][:, left]) > AGREEMENT)",
        "ends[k][:, left]) > -1)",
    ),
    Mutation(
        "sample: an end that was never learnt",
        "charlstm/sampling/request.py",
        "tests/sampling/test_request.py -k ends_a_text",
        "ends=trained.ends",
        "ends=True",
    ),
    Mutation(
        "train: the valid part leaks",
        "charlstm/text/corpus.py",
        "tests/text/test_corpus.py -k parts_are",
        "    train, valid, test = (ids[a:b] for a, b in pairwise(cuts))\n",
        "    train, valid, test = (ids[a:b] for a, b in pairwise(cuts))\n    train = ids[: cuts[2]]\n",
    ),
    Mutation(
        "processes: gradients not averaged",
        "charlstm/training/processes.py",
        "tests/training/test_processes.py",
        "torch.split(flat / self.size",
        "torch.split(flat",
    ),
    Mutation(
        "processes: all have the first streams",
        "charlstm/training/processes.py",
        "tests/training/test_processes.py",
        "(streams, self.size)[self.rank]",
        "(streams, self.size)[0]",
    ),
    Mutation(
        "train: forget all parts of a batch but the last",
        "charlstm/training/loop.py",
        "tests/training/test_processes.py -k parts",
        "if len(afters) < parts:",
        "if False:",
    ),
    Mutation(
        "train: train on the valid part, too",
        "charlstm/tasks/worker.py",
        "tests/tasks/test_language_model.py -k no_trace",
        "        plan.corpus.train,\n        plan.start",
        "        plan.corpus.ids,\n        plan.start",
    ),
    Mutation(
        "auto tries a precision that the machine emulates",
        "charlstm/training/machine.py",
        "tests/training/test_machine.py -k hardware",
        "if one_of & set(capabilities)",
        "if one_of",
    ),
    Mutation(
        "compare what the first step took",
        "charlstm/training/speed.py",
        "tests/training/test_streams.py -k fastest_has",
        "choice: (min(t), ",
        "choice: (t[0], ",
    ),
    Mutation(
        "speed: what the first step took counts",
        "charlstm/training/speed.py",
        "tests/training/test_streams.py -k does_not_count",
        "range(2 if is_first else 1)",
        "range(1)",
    ),
    Mutation(
        "speed: as if the optimizer took longer for a whole window",
        "charlstm/training/speed.py",
        "tests/training/test_streams.py -k part_of_a_window",
        "whole * taken + min(fixed)",
        "whole * (taken + min(fixed))",
    ),
    Mutation(
        "train: never average",
        "charlstm/training/loop.py",
        "tests/training/test_streams.py -k average",
        "            self.average.update()",
        "            pass",
    ),
    Mutation(
        "train: never use the average",
        "charlstm/tasks/language_model_run.py",
        "tests/tasks/test_language_model.py -k better_of_weights",
        "            weights = self.weights(averaged)\n",
        "            weights = self.weights(averaged=False)\n",
    ),
    Mutation(
        "train: do not clip",
        *OPTIMIZER,
        "(self.config.clip / (norm + 1e-6)).clamp(max=1.0)",
        "torch.ones_like(norm)",
    ),
    Mutation(
        "train: decay biases",
        *OPTIMIZER,
        "if parameter.dim() > 1",
        "if parameter.dim() > 0",
    ),
    Mutation("train: ignore the warm-up", *SCHEDULE, "if step < warmup:", "if step < 0:"),
    Mutation(
        "text: unknown characters in other places",
        "charlstm/text/corpus.py",
        "tests/text/test_corpus.py -k original",
        "points[places[first:last] - begin]",
        "points[places[first:last]]",
    ),
    Mutation(
        "resume: read whatever a checkpoint names",
        "charlstm/runs/resume.py",
        "tests/runs/test_resume.py -k names",
        "    if not is_within and corpora.",
        "    if False and corpora.",
    ),
    Mutation(
        "terminal: let control characters through",
        "charlstm/cli/terminal.py",
        "tests/commands/test_control_characters.py",
        "    return text.translate(ESCAPES)",
        "    return text",
    ),
    Mutation(
        "memory: forget the groups above",
        "charlstm/training/memory.py",
        "tests/training/test_memory.py -k container",
        "for place in (inner, *inner.parents):",
        "for place in (inner,):",
    ),
]


def run_tests(tests: str, mutation: Mutation | None = None) -> tuple[int, str]:
    """pytest's exit code in a copy of the project, mutated or not, and the first test that failed."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        shutil.copytree(ROOT, project, ignore=LEFT_OUT)
        if mutation:
            file = project / mutation.file
            file.write_text(file.read_text("utf-8").replace(mutation.old, mutation.new), "utf-8")
        environment = os.environ | {"PYTHONPATH": str(project)}
        command = [sys.executable, "-m", "pytest", "-x", "--tb=no", "-rf", "-p", "no:cacheprovider"]
        said = Path(folder, "said")
        with said.open("w") as output:
            process = subprocess.Popen(
                [*command, *tests.split()],
                cwd=project,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            code = process.wait()
        with suppress(ProcessLookupError):  # what a mutation has left under way
            os.killpg(process.pid, signal.SIGKILL)
        text = said.read_text("utf-8", "replace")
    failed = re.findall(r"^FAILED (.+?)(?: - |$)", text, re.MULTILINE)
    return code, failed[0] if failed else text[-1000:]


def misfit(mutation: Mutation) -> str:
    """What is wrong with a row, if it cannot be made."""
    missing = [name for name in (mutation.file, mutation.tests.split()[0]) if not (ROOT / name).exists()]
    if missing:
        return f"NOT MADE: there is no {missing[0]}"
    text = (ROOT / mutation.file).read_text("utf-8")
    count = text.count(mutation.old)
    if count != 1:
        return f"NOT MADE: {count} times in {mutation.file}: {mutation.old!r}"
    if mutation.file.endswith(".py"):  # every test would notice what cannot even be read
        try:
            ast.parse(text.replace(mutation.old, mutation.new))
        except SyntaxError as error:
            return f"NOT MADE: {mutation.file} would be no Python: {error}"
    return ""


def verdict(mutation: Mutation) -> tuple[bool, str]:
    """Whether the tests notice the mutation, and the first that does or what is wrong."""
    if wrong := misfit(mutation):
        return False, wrong
    code, found = run_tests(mutation.tests, mutation)
    if code == 0:
        return False, f"SURVIVED {mutation.tests}"
    return code == 1, found if code == 1 else f"NOT RUN, pytest's exit code is {code}: {found}"


def main(words: list[str]) -> int:
    """Print the table, return the exit code."""
    if words == ["check"]:
        misfits = [f"{row.name:40}  {wrong}" for row in MUTATIONS if (wrong := misfit(row))]
        print(*misfits, f"{len(misfits)} of {len(MUTATIONS)} rows cannot be made", sep="\n")
        return 1 if misfits else 0
    chosen = [row for row in MUTATIONS if not words or any(word in row.name for word in words)]
    if not chosen:
        print(f"no mutation has one of these words in its name: {' '.join(words)}")
        return 1
    noticed = []
    for tests in sorted({row.tests for row in chosen}):
        code, found = run_tests(tests)
        noticed.append(code == 0)
        print(f"{'no mutation':40}  {f'{tests} pass' if code == 0 else f'FAILED {found}'}", flush=True)
    for row in chosen:
        good, found = verdict(row)
        noticed.append(good)
        print(f"{row.name:40}  {found}", flush=True)
    print(f"{len(noticed)} rows, {noticed.count(False)} of them not as they should be")
    return 0 if all(noticed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
