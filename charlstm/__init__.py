"""charlstm: character-level LSTM language models, trained, proven and sampled.

One alphabet of dimensions holds in every docstring of this package:

    T  time steps          B  parallel streams (the batch)
    V  vocabulary size     H  hidden units
    L  layers              D  directions (1, or 2 when bidirectional)

Everything is time-major, `(T, B, ...)`, and weights are float32 unless said otherwise. This module
imports nothing: `sample.py` must start without torch.
"""

__version__ = "0.1.0"
