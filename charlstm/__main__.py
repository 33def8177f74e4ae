"""`charlstm COMMAND key=value ...`, which is the same as `python -m charlstm COMMAND key=value ...`."""

import sys
from importlib import import_module

from charlstm import __version__

COMMANDS = {
    "train": "train a model: learn a text by heart, or to write like it",
    "sample": "write text with a trained model",
    "score": "say how well a model predicts a text, in bits per character",
    "limit": "find how much a model can learn by heart",
}


def main() -> None:
    """Run the command that the first argument names; each is `charlstm/cli/<name>.py`."""
    if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
        name = sys.argv.pop(1)
        import_module(f"charlstm.cli.{name}").main()
    elif len(sys.argv) == 1 or sys.argv[1] in ("-h", "--help"):
        print("charlstm: character-level LSTM language models.\n")
        print("\n".join(f"    charlstm {name:<8}{what}" for name, what in COMMANDS.items()))
        print("\ncharlstm COMMAND --help lists the keys of each.")
    elif sys.argv[1] == "--version":
        print(__version__)
    else:
        print(f"error: {sys.argv[1]}: no such command; there are {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
