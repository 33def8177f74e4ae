"""Do checkpoints survive damage, malice, crashes and failing disks? One command each:

    python -m benchmarks.reliability.bits      every flipped bit is noticed
    python -m benchmarks.reliability.fuzz      no file does anything but load or be refused
    python -m benchmarks.reliability.crashes   a process killed, or power lost, at any point of a save
    python -m benchmarks.reliability.errors    a disk that is full, broken, read-only or forbidden

Each prints a table and exits with 1 if anything is not as it should be.
"""
