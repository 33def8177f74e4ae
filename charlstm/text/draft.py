"""Sources -> the draft of a corpus: all that can be known of them after one pass, and their symbols.

Which ids the symbols get is known only when the last of them has gone by. So that nothing is read again for
that, the draft keeps their code points.
"""

from collections import deque
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from charlstm.config.settings import DataConfig
from charlstm.progress_bar import Bar, progress_bar
from charlstm.text.decoding import BinaryError, UndecodableError, refuse_binary, texts
from charlstm.text.records import END, START, marked
from charlstm.text.source import Source
from charlstm.text.survey import SURROGATES, CodePoints, Facts, Survey
from charlstm.text.vocabulary import UnknownCharacterError, Vocabulary, as_code_points, describe


class Draft:
    """The symbols of sources, and what is known of them. Raises ValueError if a source cannot be read, or is
    not what it should be, and OSError if the file cannot be written.

    Args:
        sources: are read here, each once.
        file: an empty one, in which the code points of the symbols are kept.

    Attributes:
        survey: of the sources that are kept.
        kept: these; the others are not text: binary ones among several, or as `data.errors` says.
        digests: of all sources: SHA-256 in hexadecimal.
    """

    def __init__(self, sources: list[Source], config: DataConfig, file: IO[bytes]) -> None:
        self.survey = Survey()
        self.kept: list[Source] = []
        self.digests: list[str] = []
        self._config, self._file, self._is_one_of_many = config, file, len(sources) > 1
        self._pieces: list[tuple[np.dtype[Any], int]] = []
        with progress_bar(sum(one.size for one in sources), "reading the text") as bar:
            for one in sources:
                self._read(one, bar)

    def described(self) -> tuple[Vocabulary, Facts]:
        """The vocabulary and the facts; ValueError if there are no characters, or wrong ones."""
        config, survey = self._config, self.survey
        name = f"data.path = {config.path}" if config.text is None else "data.text"
        if not self.kept:
            raise ValueError(
                f"{name}: none of its {len(self.digests)} files is text in data.encoding = "
                f"{config.encoding}; name another"
            )
        records = int(survey.counts[ord(START) : ord(END)].sum()) if config.records != "none" else 0
        if survey.counts[SURROGATES].sum() != 2 * records:
            raise ValueError(f"{name}: has lone surrogates in data.encoding = {config.encoding}; convert it")
        counts = survey.counts.copy()
        counts[SURROGATES] = 0
        occur = np.flatnonzero(counts)
        if not occur.size:
            empty = "there are only empty records" if survey.characters else "the text is empty"
            raise ValueError(f"{name}: {empty}; it needs at least one character")
        often = occur[counts[occur] >= config.min_count]
        if config.alphabet is not None:
            vocabulary = Vocabulary(config.alphabet, unknown=config.min_count > 1, unit=config.unit)
            often = np.intersect1d(occur, as_code_points(config.alphabet))
            missing = set(map(chr, occur)) - set(config.alphabet)
            if missing and vocabulary.unknown is None:
                raise self._first_unknown(missing, vocabulary)
        elif often.size:
            unknown = len(often) < len(occur)
            vocabulary = Vocabulary("".join(map(chr, often)), unknown=unknown, unit=config.unit)
        else:
            raise ValueError(
                f"data.min_count = {config.min_count}: no character occurs that often; the most frequent one "
                f"occurs {counts.max()} times"
            )
        return vocabulary, Facts(
            source=name,
            files=len(self.kept),
            left_out=len(self.digests) - len(self.kept),
            bytes=survey.size,
            characters=survey.characters,
            distinct=len(occur),
            rare=int(counts.sum() - counts[often].sum()),
            cr=survey.cr,
            crlf=survey.crlf,
            bom=survey.bom,
            records=records,
            symbols=int(survey.counts.sum()),
        )

    def symbols(self) -> Iterator[CodePoints]:
        """The code points of all symbols, in pieces `(T,)`."""
        self._file.seek(0)
        for dtype, count in self._pieces:
            yield np.frombuffer(self._file.read(count * dtype.itemsize), dtype)

    def _first_unknown(self, missing: set[str], vocabulary: Vocabulary) -> ValueError:
        # the one place where sources are read again: to say where it is, and to end there
        for one in self.kept:
            position = 0
            for text in texts(one.blocks(), one.name, self._config):
                for n, character in enumerate(text):
                    if character in missing:
                        others = sorted(missing - {character})[:10]
                        more = (
                            f", nor {'is' if len(others) == 1 else 'are'} {', '.join(map(describe, others))}"
                        )
                        first = vocabulary.unknown_character(character, position + n, one.name)
                        return UnknownCharacterError(f"{first}{more if others else ''}")
                position += len(text)
        raise AssertionError("a character was counted that is not there")

    def _read(self, one: Source, bar: Bar) -> None:
        config, found, before = self._config, Survey(), bar.n
        begin, pieces = self._file.tell(), len(self._pieces)
        blocks = found.watch_bytes(one.blocks(), config)
        wrong, is_left_out = None, False
        try:
            text = found.watch_text(texts(blocks, one.name, config))
            for symbols in marked(text, config.records):
                points = found.add(symbols)
                self._file.write(points.data)
                self._pieces.append((points.dtype, len(points)))
                bar.n = before + found.size
            if config.unit == "char" and not config.force and config.text is None:
                refuse_binary(found.controls(), found.characters, one.name, one.blocks())
        except UndecodableError as error:
            wrong = error
            is_stray = self._is_one_of_many and not config.force and isinstance(error, BinaryError)
            is_left_out = config.errors == "skip" or is_stray
            if is_left_out or one.sha256:
                deque(blocks, maxlen=0)  # what is left out is a part of the digest, too
        self.digests.append(one.checked(found.sha256.hexdigest()))
        bar.n = before + found.size
        if wrong is None:
            self.kept.append(one)
            self.survey.merge(found)
        elif is_left_out:
            self._file.seek(begin)
            del self._pieces[pieces:]
        else:
            raise wrong
