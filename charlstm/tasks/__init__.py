"""What a run is for.

table.py           TASKS: the plan of each
memorize.py        learn a text by heart and prove it: the plan; memorize_run.py: the run
language_model.py  learn to write like a corpus: the plan; language_model_run.py: the run
final_scores.py    what a language model is worth at its end, beside simpler models, and that in words
worker.py          a language model's training, and a process that trains along with others
copying.py         read random symbols and write them back: the plan, the examination; copying_run.py: the run
"""
