"""The recurrences written out: tanh RNN, ReLU RNN, GRU and LSTM.

    gates.py        the weights: names, shapes and gate order of torch.nn
    layers.py       from one step to a sequence, a reversed one, both directions, a stack
    numpy_cells.py  the equations in NumPy: the oracle of the tests and the engine of `sample.py`
    torch_cells.py  the equations in plain torch operations, differentiable: `model.engine=plain`

`docs/recurrence.md` teaches them with numbers. A cell is called `lstm`, `gru`, `rnn_tanh` or `rnn_relu`
everywhere. This module imports nothing: whoever needs the NumPy cells does not pay for torch.
"""
