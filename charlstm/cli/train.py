"""Train a character-level LSTM.

    python train.py                                   learn data/hello.txt by heart
    python train.py data.text="any sentence" seed=7   another text, other random numbers
    python train.py data.path=some.txt model.layers=3
    python train.py data.path=book.txt task=lm        learn to write like a book
    python train.py data=python task=lm check=true    look before
    python train.py experiment=notebook               a published experiment (conf/experiment/)
    python train.py experiment=copy                   how many random symbols its state can hold
    python train.py --multirun seed=0,1,2             several runs, one after another

Every run makes a directory under outputs/ (or hydra.run.dir=...). --cfg job shows the configuration
without running, --hydra-help what else Hydra can do. All keys, with their defaults:
"""

from charlstm.cli import command_line
from charlstm.config.settings import TrainSettings
from charlstm.tasks import table


def main() -> None:
    """Train as the command line asks."""
    command_line.run("train", TrainSettings, __doc__ or "", check=table.check, job=table.train)
