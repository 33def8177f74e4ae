"""Write text with a trained model, on standard output.

    charlstm sample ckpt=outputs/...                   from the start token
    charlstm sample ckpt=outputs/... prompt="how "     continue a prompt
    charlstm sample ckpt=outputs/... temperature=1 length=500 seed=7
    charlstm sample ckpt=outputs/... samples=20 top_p=0.9 out=runs/twenty
    charlstm sample ckpt=outputs/... prompt_file=prompts.txt each=line
    charlstm sample ckpt=outputs/... interactive=true  talk with it

All keys, with their defaults:
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from charlstm.cli import command_line, terminal
from charlstm.config.tool_settings import SampleSettings
from charlstm.files import written_to
from charlstm.sampling import writer
from charlstm.sampling.request import Request, Sample, samples


def main() -> None:
    with terminal.output() as is_watched:
        settings = command_line.ask("sample", SampleSettings, terminal.as_started(__doc__))
        if settings.interactive:
            from charlstm.cli.talk import Talk

            Talk(settings).hold()
            return
        last = ""
        for piece in write(settings):
            terminal.show(piece, flush=is_watched)
            last = piece or last
        if is_watched and not last.endswith("\n"):
            print()


def write(settings: SampleSettings) -> Iterator[str]:
    """What a request writes to standard output, piece by piece. Raises ValueError if it is wrong, and
    KeyboardInterrupt of SIGINT, after the text so far."""
    request = Request(settings)
    if request.vocabulary.unit == "byte" and settings.format == "text":
        terminal.let_bytes_through()
    if settings.seed is None and request.strategy.temperature > 0:
        print(f"seed={request.seed} writes this again", file=sys.stderr, flush=True)
    if settings.out is not None:
        _save(settings.out, request)
    elif settings.format != "text" or request.total > 1 or settings.best_of > 1:
        yield from FORMATS[settings.format](request)
    else:
        yield request.shown("")
        passage = request.passage()
        try:
            yield from writer.stream(request.writer([request.seed]), request.vocabulary, passage)
        except KeyboardInterrupt:
            yield "".join(map(request.vocabulary.text, passage.finish("interrupted")))
            request.interrupted = True
    if request.interrupted:
        raise KeyboardInterrupt


def _as_text(request: Request) -> Iterator[str]:
    """The texts, one below the other, each under a line that tells them apart; a single one alone."""
    for n, sample in enumerate(samples(request), 1):
        if request.total > 1:
            bits = "" if sample.bits_per_char is None else f", {sample.bits_per_char:.3f} bits per character"
            if n > 1:
                yield "\n\n"
            yield f"=== {n} of {request.total}: seed {sample.seed}{bits}\n"
        yield request.shown(sample.text, sample.prompt)
    if request.total > 1:
        yield "\n"


def _as_json(request: Request) -> Iterator[str]:
    yield "["
    for n, sample in enumerate(samples(request)):
        yield ("," if n else "") + "\n" + _object(sample)
    yield "\n]\n"


def _as_json_lines(request: Request) -> Iterator[str]:
    for sample in samples(request):
        yield _object(sample) + "\n"


FORMATS = {"text": _as_text, "json": _as_json, "jsonl": _as_json_lines}


def _object(sample: Sample) -> str:
    return json.dumps(asdict(sample), ensure_ascii=False)


def _save(out: str, request: Request) -> None:
    """Write each sample to a file of its own in a new folder, and all with their figures to samples.jsonl."""
    if request.settings.format != "text":
        raise ValueError(f"format = {request.settings.format}: has no effect with out; leave one of them out")
    folder = Path(out)
    with written_to(out, "made"):
        folder.mkdir(parents=True, exist_ok=True)
        is_used = any(folder.iterdir())
    if is_used:
        raise ValueError(f"out = {out}: not empty; name a new folder")
    digits = len(str(request.total))
    with written_to(out), (folder / "samples.jsonl").open("wb") as lines:
        for n, sample in enumerate(samples(request), 1):
            lines.write(f"{_object(sample)}\n".encode(errors="backslashreplace"))
            text = request.shown(sample.text, sample.prompt).encode("utf-8", "surrogateescape")
            (folder / f"{n:0{digits}}.txt").write_bytes(text)
    print(f"{n} texts and samples.jsonl in {terminal.visible(str(folder))}", file=sys.stderr)
