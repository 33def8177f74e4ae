"""charlstm: character-level LSTM language models, trained, proven and sampled.

    import charlstm
    model = charlstm.train(text="to be, or not to be", hidden=64)  # or charlstm.load("runs/hello")
    model.sample("to be")

One alphabet of dimensions holds in every docstring of this package:

    T  time steps          B  parallel streams (the batch)
    V  vocabulary size     H  hidden units
    L  layers              D  directions (1, or 2 when bidirectional)

Everything is time-major, `(T, B, ...)`, and weights are float32 unless said otherwise. This module imports
nothing that takes long before it is asked to: `sample.py` must start without torch.
"""

import os
from time import monotonic

BEGAN = monotonic()  # when the process did, about; commands count `train.budget` from here

TYPE_CHECKING = False  # as in `typing`, whose import alone takes longer than everything here

if TYPE_CHECKING:
    from charlstm.api import Model, load, train

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load", "train"]

# A thread that waits for another spins, by default for 16 ms or more: where that one waits itself, for a core
# that other processes have, a step took 8 times as long as on one thread. For 0.2 ms it costs nothing
# (`benchmarks.threads`). OpenMP reads this when torch is imported; what a user has set holds.
if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
    os.environ["KMP_BLOCKTIME"] = "1"  # ms, of Intel's and LLVM's
    if hasattr(os, "uname") and os.uname().machine == "x86_64":  # a turn is short elsewhere
        os.environ["GOMP_SPINCOUNT"] = "4000"  # turns, of GNU's

if not TYPE_CHECKING:  # a type checker would take every name for one of this module's

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module("charlstm.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
