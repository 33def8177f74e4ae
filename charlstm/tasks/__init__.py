"""What a run is for.

table.py           TASKS: the plan of each
plan.py            a language model, decided and measured
memorize.py        learn a text by heart and prove it
language_model.py  learn to write like a corpus
copying.py         read random symbols and write them back
copy_sequences.py  these symbols, and the examination
"""
