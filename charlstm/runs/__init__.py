"""One run in its directory, whatever it is for: begun, shown, saved, stopped, resumed, ended.

plan.py       a request that was looked at, and nothing made yet
run.py        the loop: figures, show, score, save, stop
saving.py     when to save, and going back from numbers that went wrong
snapshot.py   all that the next step depends on
directory.py  a run directory: one process at a time, and always a state to resume from
resume.py     an earlier run -> one that resumes it
signals.py    SIGINT, SIGTERM and SIGUSR1
tracker.py    TensorBoard's curves and the progress bar
initial.py    a trained model -> the first weights of a run of another text
inside.py     what TensorBoard shows of gates, cells, predictions and weights
report.py     `result.json`, and what to do next
"""
