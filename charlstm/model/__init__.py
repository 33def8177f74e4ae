"""Ids -> scores of the next character: one network three times, under the same names of weights.

torch_model.py  for training
numpy_model.py  for scoring, and to look inside; needs no torch
stepper.py      one character at a time, fast, for writing; needs no torch
"""
