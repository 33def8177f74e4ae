"""Write text with a trained model: `python sample.py --help`. The same as `charlstm sample`."""

from charlstm.cli.sample import main

if __name__ == "__main__":
    main()
