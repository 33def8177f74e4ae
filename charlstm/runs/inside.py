"""What TensorBoard shows of a model's inside: gates, cells and predictions while it reads, its vectors."""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from charlstm.cells.numpy_cells import Array, Terms
from charlstm.config.settings import ModelConfig
from charlstm.model.numpy_model import NumpyModel
from charlstm.scoring import units
from charlstm.text.vocabulary import Ids, Vocabulary

Pixels = NDArray[np.uint8]
Weights = dict[str, NDArray[np.float32]]

ROWS = 20  # units or characters in a picture, at most
COLUMN, ROW, MARGIN = 12, 14, 118  # pixels
VECTORS = 1_000_000  # numbers at most, in text some 10 MB

TERMS = {"i": "input_gate", "f": "forget_gate", "g": "cell_gate", "o": "output_gate", "c": "cell"}
TERMS |= {"h": "hidden", "r": "reset_gate", "z": "update_gate", "n": "new_value"}
SHARES = "iforz"  # terms from 0 to 1; all others are signed
# colours that the colour-blind can tell: white to dark blue, and blue over white to orange
RISING = np.array([[255, 255, 255], [107, 174, 214], [8, 48, 107]])
SIGNED = np.array([[33, 102, 172], [247, 247, 247], [230, 97, 1]])
ONE_COLUMN = {" ": "·", "\n": "¶", "\t": "»"}


def draw(
    writer: Any, step: int, config: ModelConfig, weights: Weights, vocabulary: Vocabulary, ids: Ids
) -> None:
    """Give a `SummaryWriter` the pictures of a model that reads `ids (T,)`, and histograms of its numbers."""
    model = NumpyModel(config, weights)
    try:
        terms = {letter: term for letter, term in model.trace(ids).items() if letter in TERMS}  # (T, L, H)
        drawn = pictures(model, terms, vocabulary, ids)
    except FloatingPointError:  # there is nothing to see, which takes nothing from the training
        return
    for name, pixels in drawn.items():
        writer.add_image(name, pixels, step, dataformats="HWC")
    for name, weight in weights.items():
        if weight.ndim == 2:
            writer.add_histogram(f"weights/{name}", weight, step)
    for letter, term in terms.items():
        for layer in range(config.layers):
            writer.add_histogram(f"values/layer_{layer + 1}_{TERMS[letter]}", term[:, layer], step)


def pictures(model: NumpyModel, terms: Terms, vocabulary: Vocabulary, ids: Ids) -> dict[str, Pixels]:
    """Pictures of what a model computes while it reads `ids (T,)`, by name: time across, and down those
    units of each layer that follow the text most, ordered by what they follow; and the probabilities of the
    next character, whose true one is framed."""
    names = labels(vocabulary)
    characters = [vocabulary.characters[k] if k < vocabulary.start else "\n" for k in ids.tolist()]
    columns = [ONE_COLUMN.get(one, names[k][:1]) for one, k in zip(characters, ids.tolist(), strict=True)]
    # c or h: (F, L, H)
    correlations = units.correlations(model.recurrent.cell, terms, "".join(characters))[:, -1]
    drawn = {}
    for layer in range(correlations.shape[1]):
        of_units = np.abs(correlations[:, layer])
        most = np.argsort(-of_units.max(axis=0), kind="stable")[:ROWS]
        chosen = sorted(most.tolist(), key=lambda u: (of_units[:, u].argmax(), -of_units[:, u].max()))
        rows = [f"{unit} {units.FEATURES[of_units[:, unit].argmax()]}" for unit in chosen]
        empty = frame(rows, columns)
        for letter, term in terms.items():
            values = term[:, layer, chosen].T
            if letter not in SHARES:
                values = 0.5 + values / (2 * np.abs(values).max(initial=1e-9))
            colours = RISING if letter in SHARES else SIGNED
            drawn[f"view/layer_{layer + 1}_{TERMS[letter]}"] = heat_map(empty, values, colours)
    scores, _ = model(ids)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    chosen = np.argsort(-odds.mean(axis=0), kind="stable")[:ROWS].tolist()
    picture = heat_map(frame([names[k] for k in chosen], columns), np.sqrt(odds[:, chosen].T), RISING)
    for t, following in enumerate(ids[1:].tolist()):
        if following in chosen:
            top, left = chosen.index(following) * ROW, MARGIN + t * COLUMN
            field = picture[top : top + ROW, left : left + COLUMN]
            field[[0, -1]] = SIGNED[2]
            field[:, [0, -1]] = SIGNED[2]
    drawn["view/next_character"] = picture
    return drawn


def frame(rows: list[str], columns: list[str]) -> Image.Image:
    """A picture that is still empty, with names of the rows, and below the columns one character each."""
    height, width = ROW * len(rows), COLUMN * len(columns)
    image = Image.new("RGB", (MARGIN + width, height + ROW + 2), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(ROW - 2)
    for k, name in enumerate(rows):
        draw.text((2, k * ROW), name, "black", font)
    for k, name in enumerate(columns):
        draw.text((MARGIN + (k + 0.5) * COLUMN, height), name, "black", font, anchor="ma")
    return image


def heat_map(image: Image.Image, values: Array, colours: NDArray[Any]) -> Pixels:
    """Numbers from 0 to 1, `(R, T)`, in a frame, in colours through `(3, RGB)`: `(height, width, RGB)`."""
    blend = np.stack([np.interp(values, [0, 0.5, 1], colour) for colour in colours.T], axis=-1)
    pixels = blend.round().astype(np.uint8).repeat(ROW, axis=0).repeat(COLUMN, axis=1)
    filled = np.array(image)
    filled[: len(pixels), MARGIN:] = pixels
    return filled


def labels(vocabulary: Vocabulary) -> list[str]:
    """A name of each id that can be seen: the character itself, or what it is called."""

    def seen(character: str) -> str:
        if vocabulary.unit == "byte" and not "!" <= character <= "~":
            return f"byte_{ord(character):02x}"
        if character.isprintable() and not character.isspace():
            return character
        known = {" ": "space", "\n": "newline", "\t": "tab", "\r": "carriage_return"}
        return known.get(character) or unicodedata.name(character, f"U+{ord(character):04X}").lower()

    return [*map(seen, vocabulary.characters), "<start>", "<end>", "<unknown>"][: len(vocabulary)]


def save_vectors(directory: Path, weights: Weights, vocabulary: Vocabulary) -> None:
    """Leave the characters' vectors for TensorBoard's projector: those of the embedding or, of one-hot input,
    the first layer's weights. `add_embedding` would write to standard output. Raises OSError."""
    vectors = weights.get("embedding.weight", weights["rnn.weight_ih_l0"].T)
    vectors = vectors[: VECTORS // vectors.shape[1]]
    folder = directory / "projector"
    folder.mkdir(exist_ok=True)
    np.savetxt(folder / "vectors.tsv", vectors, "%.5g", "\t")
    (folder / "labels.tsv").write_text("\n".join(labels(vocabulary)[: len(vectors)]) + "\n", "utf-8")
    paths = 'tensor_path: "projector/vectors.tsv" metadata_path: "projector/labels.tsv"'
    (directory / "projector_config.pbtxt").write_text(f'embeddings {{ tensor_name: "characters" {paths} }}\n')
