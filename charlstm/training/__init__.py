"""Ids -> new weights. Knows no file, no directory and no task.

recipe.py     what `auto` means
windows.py    ids -> windows (T, B)
losses.py     scores -> nats
loop.py       window after window: the training itself
speed.py      what makes a step shortest here, and how long it takes
optimizer.py  gradients -> steps: clipping, AdamW, averages
soap.py       the same by SOAP
muon.py       the same by Muon
graph.py      a step on a GPU that is started as one
schedule.py   the learning rate of each step
clock.py      the time of a run, and what is left of it
processes.py  several processes that train together
progress.py   the figures of a training on its way
machine.py    device, precision and threads
threads.py    fewer threads while others want the cores
memory.py     how much memory it takes, before it takes it
"""
