"""A request for text: the model, the prompt and the choices, checked; and the samples that come of it."""

import json
import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from charlstm import checkpoint
from charlstm.config.tool_settings import SampleSettings
from charlstm.progress_bar import progress_bar
from charlstm.sampling import writer
from charlstm.sampling.strategy import Floats, Strategy
from charlstm.sampling.writer import Passage, Writer
from charlstm.text import decoding, source
from charlstm.text.vocabulary import UnknownCharacterError, Vocabulary, widths

SIDE_BY_SIDE = 256  # streams of a batch at most: more are no faster, and their state might not fit the memory
LENGTH = 1000  # characters that a language model writes, if nothing else is said
TURN = 200  # that any model does at a time in a conversation
LONGEST = 10**6  # that any model does at all: it is a file that says how long its text was


@dataclass(frozen=True)
class Sample:
    """One text that was written, and -log2 of the probability that the model gave it, for each character and
    for each byte of UTF-8; None where it has none."""

    prompt: str
    text: str
    seed: int
    ending: str  # `end` (the end token), `stop`, `length` or `interrupted`
    bits_per_char: float | None
    bits_per_byte: float | None


class Request:
    """A request with all that was read for it: to the model `trained`, by default the one that `ckpt` names.
    Raises ValueError if the checkpoint, the prompt or what is asked of them is wrong."""

    def __init__(self, settings: SampleSettings, trained: checkpoint.Checkpoint | None = None) -> None:
        if not (settings.ckpt or trained):
            raise ValueError("ckpt: missing; name a checkpoint or run directory, such as ckpt=outputs/...")
        self.trained = trained = trained or checkpoint.load(Path(settings.ckpt or ""))
        self.settings = settings
        self.model, self.vocabulary = trained.model(), trained.vocabulary
        usual = 0.8 if trained.task == "lm" else 0.0
        self.strategy = Strategy(
            temperature=usual if settings.temperature is None else settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            min_p=settings.min_p,
            repetition_penalty=settings.repetition_penalty,
            repetition_window=settings.repetition_window,
            mask=writer.mask(self.vocabulary, settings.ban, ends=trained.ends),
        )
        length = min(trained.text_length, LONGEST) if trained.task == "memorize" else LENGTH
        length = min(length, TURN) if settings.interactive else length
        self.length = length if settings.length is None else settings.length
        self.stops = [self.vocabulary.units(stop) for stop in stops(settings.stop)]
        self.seed = secrets.randbelow(2**32) if settings.seed is None else settings.seed
        name = "line {} of the prompts" if settings.each else "prompt"
        self.prompts = [
            known(prompt, settings.unknown, self.vocabulary, name.format(n))
            for n, prompt in enumerate(prompts_of(settings), 1)
        ]
        self.prompt = self.prompts[0]
        self.total = len(self.prompts) * settings.samples
        self.interrupted = False

    def writer(self, seeds: Sequence[int], prompts: Sequence[str] = (), measure: bool = False) -> Writer:
        """Streams with these seeds, each of which has read its prompt, by default the only one."""
        distinct = set(prompts) or {self.prompt}
        several = prompts if len(distinct) > 1 else list(distinct)  # one that all have is read once
        ids = [self.vocabulary.encode(prompt, source="prompt").tolist() for prompt in several]
        return Writer(self.model, self.vocabulary, self.strategy, seeds, ids, measure=measure)

    def passage(self) -> Passage:
        return Passage(self.length, self.stops)

    def shown(self, text: str, prompt: str | None = None) -> str:
        """A text as people see it, after its prompt, by default the only one, or without."""
        return (self.prompt if prompt is None else prompt) + text if self.settings.echo else text


def samples(request: Request) -> Iterator[Sample]:
    """The samples of a request, of `best_of` candidates the one with the fewest bits per character each."""
    count = request.settings.best_of
    candidates = _candidates(request)
    while several := list(islice(candidates, count)):  # fewer if it was interrupted
        # one without characters is the best only if all are
        yield min(several, key=lambda s: math.inf if s.bits_per_char is None else s.bits_per_char)


def stops(given: str | None) -> list[str]:
    """The strings of the key `stop`: a JSON list of strings, or any other text as it is."""
    if given is None:
        return []
    try:
        several = json.loads(given)
    except (ValueError, RecursionError):
        several = None
    is_list = isinstance(several, list) and all(isinstance(stop, str) for stop in several)
    found: list[str] = several if is_list else [given]
    if not all(found):
        raise ValueError(f"stop = {given}: an empty string ends every text; leave it out")
    return found


def known(text: str, unknown: str, vocabulary: Vocabulary, source: str = "prompt") -> str:
    """A prompt with the characters that the model never saw handled as the key `unknown` says. Raises
    UnknownCharacterError if there are some, and they are not to be skipped, or nothing known is near."""
    if unknown == "nearest":
        text = vocabulary.replace_unknown(text)
    if unknown == "skip":
        text = vocabulary.skip_unknown(text)
    try:
        vocabulary.encode(text, source=source)
    except UnknownCharacterError as error:
        others = "unknown=skip leaves it out"
        if unknown == "error":
            others += ", unknown=nearest looks for a near one"
        raise UnknownCharacterError(f"{error}; {others}") from None
    return text


def prompts_of(settings: SampleSettings) -> list[str]:
    """The prompt, or with `each` the lines of its file; ValueError if it is given twice, or cannot be had."""
    text, file = settings.prompt, settings.prompt_file
    if file is None:
        decoding.check_unicode(text, "prompt", "prompt_file")
    elif text:
        raise ValueError("prompt and prompt_file: both are given; leave one of them out")
    else:
        text = decoding.decoded(source.contents(file, f"prompt_file = {file}"), f"prompt_file = {file}")
    if settings.each is None:
        return [text]
    if file is None or settings.interactive:
        raise ValueError("each = line: is for prompt_file, without interactive; leave it out")
    if not text:
        raise ValueError("each = line: the file has none; leave it out")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _candidates(request: Request) -> Iterator[Sample]:
    """Of each prompt those with the seeds that it would have alone."""
    several = range(request.settings.samples * request.settings.best_of)
    jobs = ((prompt, request.seed + k) for prompt in request.prompts for k in several)
    while batch := list(islice(jobs, SIDE_BY_SIDE)):
        if not request.interrupted:
            yield from _side_by_side(request, *zip(*batch, strict=True))


def _side_by_side(request: Request, prompts: Sequence[str], seeds: Sequence[int]) -> list[Sample]:
    """A sample for each prompt and seed, all written at once."""
    passages = [request.passage() for _ in seeds]
    pieces: list[list[str]] = [[] for _ in seeds]
    bits: list[Floats] = []
    end, characters = request.vocabulary.end, request.vocabulary.characters
    try:
        writer = request.writer(seeds, prompts, measure=True)
        with progress_bar(request.length, f"{len(seeds)} samples side by side") as bar:
            while any(passage.ending is None for passage in passages):
                chosen = writer.write().tolist()
                bits.append(writer.bits)
                for passage, text, id_ in zip(passages, pieces, chosen, strict=True):
                    if passage.ending is None:
                        text.append(passage.add(None if id_ == end else characters[id_]))
                bar.update()
    except KeyboardInterrupt:
        request.interrupted = True
    samples = []
    for k, (passage, text, prompt, seed) in enumerate(zip(passages, pieces, prompts, seeds, strict=True)):
        if passage.ending is None:
            text.append(passage.finish("interrupted"))
        written = "".join(text)
        shown = request.vocabulary.text(written)
        # written may be bytes, of which a character has several
        cost = sum(float(step[k]) for step in bits[: len(written)])
        per = [cost / size if size else None for size in (len(shown), int(widths(shown).sum()))]
        samples.append(Sample(prompt, shown, seed, str(passage.ending), *per))
    return samples
