"""How much a model can learn by heart.

capacity.py  random texts, the search for the longest one, and the measures
trial.py     one model and one text -> a run -> figures, and how many bits a weight needs
search.py    trial after trial, for each model
report.py    a table, a record, the next steps
plot.py      a picture
"""
