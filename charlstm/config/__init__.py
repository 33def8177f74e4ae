"""What can be set. Needs no torch; only compose.py knows Hydra.

settings.py       every key of `train.py`, with its type
tool_settings.py  the same for sample, score and limit
values.py         ranges of numbers, shares, durations
convert.py        plain dictionaries -> these types, strictly; "did you mean"
compose.py        conf/ and overrides -> settings
"""
