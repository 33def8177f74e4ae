"""Write text with a trained model, on standard output.

    python sample.py ckpt=outputs/...                 from the start token
    python sample.py ckpt=outputs/... prompt="how "   go on from a prompt
    python sample.py ckpt=outputs/... temperature=1 length=500 seed=7

All keys, with their defaults:
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from charlstm import checkpoint, command_line, sampling
from charlstm.settings import SampleSettings


def sample(settings: SampleSettings) -> Iterable[str]:
    """The prompt, then what the model writes after it; raises ValueError for a wrong request."""
    if not settings.ckpt:
        raise ValueError("ckpt: missing; name a checkpoint or run directory, such as ckpt=outputs/...")
    trained = checkpoint.load(Path(settings.ckpt))
    by_heart = trained.task == "memorize"
    temperature = settings.temperature if settings.temperature is not None else 0.0 if by_heart else 0.8
    length = settings.length if settings.length is not None else trained.text_length
    prompt = trained.vocabulary.encode(settings.prompt, source="prompt")
    random = np.random.default_rng(settings.seed)
    yield settings.prompt
    yield from sampling.write(trained.model(), trained.vocabulary, length, prompt, temperature, random)


def main() -> int:
    """Write as the command line asks; returns the exit code."""
    is_terminal = sys.stdout.isatty()
    sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
    try:
        with command_line.answered():
            for text in sample(command_line.ask("sample", SampleSettings)):
                print(text, end="", flush=is_terminal)
        print(end="\n" if is_terminal else "", flush=True)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `sample.py | head`: nobody reads on; what is still buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
