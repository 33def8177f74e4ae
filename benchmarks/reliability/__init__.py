"""Do checkpoints and runs survive damage, malice, crashes and failing disks? One command each:

    python -m benchmarks.reliability.bits       every flipped bit is noticed
    python -m benchmarks.reliability.fuzz       no file does anything but load or be refused
    python -m benchmarks.reliability.crashes    a process killed, or power lost, at any point of a save
    python -m benchmarks.reliability.errors     a disk that is full, broken, read-only or forbidden
    python -m benchmarks.reliability.kills      runs that are killed and gone on with end as undisturbed ones
    python -m benchmarks.reliability.resumes    and so do those that are stopped every few steps
    python -m benchmarks.reliability.stops      signals are obeyed at once, wherever they come
    python -m benchmarks.reliability.nonfinite  numbers gone wrong are never saved
    python -m benchmarks.reliability.together   runs that begin at once leave each other alone
    python -m benchmarks.reliability.full_disk  a run whose disk fills, or whose directory is lost
    python -m benchmarks.reliability.soak       a long run stays as it was

Each prints a table and exits with 1 if anything is not as it should be.
"""
