"""A checkpoint -> text. Needs no torch.

strategy.py  how the next character is chosen from the scores
writer.py    streams that are fed their own output, and where a text ends
request.py   what `sample.py` is asked for -> samples
"""
