"""The commands. Only here is anything printed, an argument read, a process ended.

arguments.py     the words of a command line -> keys and flags
command_line.py  a request -> settings; the run directory, by Hydra
sweep.py         a run as Hydra calls for it, and those of a sweep, wherever it has them made; best first
terminal.py      how commands are typed; standard output, and what happens when nobody reads it
train.py, sample.py, talk.py, score.py, look.py, page.py, runs.py, export.py, limit.py
                 a file for each command, import beside export
"""

import atexit
import gc
import os

# What imports make is no garbage: to look through it again and again, and once more at the end, took a
# quarter of the time in which torch comes and goes (`benchmarks.startup`).
gc.set_threshold(100_000, 50, 50)
atexit.register(gc.freeze)

# NumPy's products are small: on two threads those of large models are 1.7 times faster on an idle machine and
# 6 times slower on a busy one; on one thread a seed writes the same on both. Read when NumPy is imported;
# what a user has set holds.
if "OMP_NUM_THREADS" not in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
