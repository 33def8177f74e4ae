"""Do checkpoints and runs survive damage, malice, crashes and failing disks? One command each:

    python -m tests.soak.bits       every flipped bit is noticed
    python -m tests.soak.fuzz       no file does anything but load or be refused
    python -m tests.soak.crashes    a process killed, or power lost, at any point of a save
    python -m tests.soak.errors     a disk that is full, broken, read-only or forbidden
    python -m tests.soak.kills      runs that are killed and resumed end as undisturbed ones
    python -m tests.soak.several    the same of runs of two processes, one of which is killed
    python -m tests.soak.resumes    and so do those that are stopped every few steps
    python -m tests.soak.stops      signals are obeyed at once, wherever they come
    python -m tests.soak.nonfinite  numbers gone wrong are never saved
    python -m tests.soak.together   runs that begin at once leave each other alone
    python -m tests.soak.full_disk  a run whose disk fills, or whose directory is lost
    python -m tests.soak.long_run   a long run stays as it was

Each prints a table and exits with 1 if anything is not as it should be. `test_reliability.py` runs them at
their smallest with the other tests, and as above by `pytest -m soak -s`, with `-k kills` one of them.
"""
