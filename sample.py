"""Write text with a trained model, on standard output.

    python sample.py ckpt=outputs/...                 from the start token
    python sample.py ckpt=outputs/... prompt="how "   go on from a prompt
    python sample.py ckpt=outputs/... temperature=1 length=500 seed=7

All keys, with their defaults:
"""

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


def main() -> None:
    """Write as the command line asks."""
    with command_line.output() as is_terminal:
        for text in sample(command_line.ask("sample", SampleSettings)):
            print(text, end="", flush=is_terminal)
        print(end="\n" if is_terminal else "")


if __name__ == "__main__":
    main()
