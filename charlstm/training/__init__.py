"""Ids -> new weights. Knows no file, no directory and no task.

recipe.py     what `auto` means
windows.py    ids -> windows (T, B)
losses.py     scores -> nats
loop.py       window after window: the training itself
speed.py      how long a step takes here
optimizer.py  gradients -> steps: clipping, AdamW, averages
soap.py       the same by SOAP
schedule.py   the learning rate of each step
progress.py   the figures of a training on its way
machine.py    device, precision and threads
memory.py     how much memory it takes, before it takes it
"""
