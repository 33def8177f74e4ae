"""What a text costs a model, in bits.

surprisal.py  the bits of every character, word, line and file; needs no torch
units.py      which units follow what is going on in a text; needs no torch
held_out.py   the score of a held-out part while training, in torch
baselines.py  the same without a network: n-grams and compressors
"""
