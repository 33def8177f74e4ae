"""`charlstm COMMAND key=value ...`, which is the same as `python -m charlstm COMMAND key=value ...`."""

import os
import sys
from importlib import import_module

from charlstm import __version__
from charlstm.cli import terminal
from charlstm.config.convert import nearest_key
from charlstm.runs import signals

COMMANDS = {
    "train": "train a model: learn a text by heart, or to write like it",
    "sample": "write text with a trained model",
    "score": "say how well a model predicts a text, in bits per character",
    "look": "show what a model's units do while it reads a text",
    "page": "make a page of a model, to write and look inside in any browser",
    "runs": "list the runs that were saved, with their figures",
    "export": "take a model elsewhere: torch, Hugging Face, ONNX",
    "import": "make a checkpoint of a plain nn.LSTM's weights",
    "limit": "find how much a model can learn by heart",
}


def main() -> None:
    """Run the command that the first argument names; each is `charlstm/cli/<name>.py`."""
    first = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if first in COMMANDS:
        del sys.argv[1]
        _run(first)
    elif first == "-sc":
        _complete()
    else:
        with terminal.output():
            _answer(first)


def _run(name: str) -> None:
    if name == "train":
        signals.listen()
    if name == "import":  # which is no name for a module
        import_module("charlstm.cli.export").take_in()
    else:
        import_module(f"charlstm.cli.{name}").main()  # no other: training needs what the rest do not wait for


def _answer(first: str) -> None:
    """Say what there is; ValueError where it is no command that was asked for."""
    if first == "--version":
        print(f"charlstm {__version__}")
    elif first in ("-h", "--help"):
        print("Character-level LSTM language models: trained, proven and sampled.\n")
        for name, what in COMMANDS.items():
            print(f"    {terminal.this_command(name.ljust(8))}{what}")
        print(f"\n{terminal.this_command('COMMAND')} --help says how, and lists the keys.")
    else:
        near = nearest_key(first, list(COMMANDS))
        hint = f"did you mean {near}?" if near else f"there are {', '.join(COMMANDS)}"
        raise ValueError(f"{first}: no such command; {hint}")


def _complete() -> None:
    """Answer a shell that completes a line, `-sc query=bash`, or that learns how to, `-sc install=bash`.
    Hydra does it, for `train` alone, and expects the keys right after the program's name."""
    program, *words = os.environ.get("COMP_LINE", "").split(" ")
    if len(words) == 1:  # which is not complete itself
        print(*COMMANDS)
    elif not words or words[0] == "train":
        os.environ["COMP_LINE"] = " ".join([program, *words[1:]])
        _run("train")


if __name__ == "__main__":
    main()
