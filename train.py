"""Train a character-level LSTM: `python train.py --help`. The same as `charlstm train`."""

from charlstm.cli.train import main

if __name__ == "__main__":
    main()
