"""A file, a folder or a pipe -> ids in three parts, whatever the task. Needs no torch.

source.py      what `data.text` and `data.path` name -> bytes; a file from the network, once
decoding.py    bytes -> characters, and what to say where they are none
records.py     characters -> symbols, with a mark at both ends of each record
vocabulary.py  characters <-> ids, and the start, end and unknown token
draft.py       sources -> symbols, and what is known of them
corpus.py      a request -> its ids in three parts: the one entry
"""
