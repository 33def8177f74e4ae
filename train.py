"""Train a character-level LSTM: `python train.py --help`. The same as `charlstm train`."""

from charlstm.runs import signals

if __name__ == "__main__":
    signals.listen()  # before the imports that take long
    from charlstm.cli.train import main

    main()
