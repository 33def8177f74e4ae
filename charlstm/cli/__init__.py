"""The commands. Only here is anything printed, an argument read, a process ended.

command_line.py  a request -> settings; the run directory, by Hydra
terminal.py      how commands are typed; standard output, and what happens when nobody reads it
train.py, sample.py, talk.py, score.py, limit.py   one file a command
"""
