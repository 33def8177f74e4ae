"""An independent referee: what a text costs a checkpoint of `task=lm`, and simpler models, in bits.

    python tests/referee.py RUN TEXT [--split 0.9 0.05 0.05] [--records line] [--min-count 1]

It imports nothing of charlstm and is slow on purpose: an LSTM written out in float64, one character after the
other, and n-grams by dictionaries. TEXT is UTF-8 with line ends \\n, or any file for a model of bytes.

It assumes: a part is one unbroken text from the start token and a zero state; every id is an outcome of the
softmax (`log_probabilities`); a record's end token is a character of one byte; each window of 256 begins with
a zero state and, without records, with the start token.
"""

import argparse
import bz2
import json
import lzma
import math
import struct
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np

START, END, UNKNOWN = "<start>", "<end>", "<unknown>"


def read_checkpoint(path):
    """The metadata and the weights of a safetensors file."""
    blob = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", blob[:8])
    header = json.loads(blob[8 : 8 + length])
    metadata = json.loads(header.pop("__metadata__")["charlstm"])
    weights = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        if entry["dtype"] == "F32":
            weights[name] = np.frombuffer(blob[begin:end], "<f4").reshape(entry["shape"]).astype(np.float64)
    return metadata, weights


def cut(symbols, split, has_records):
    """Where the valid and the test part begin: with records at the nearest one, but never the first."""
    cuts = [round(len(symbols) * (share / sum(split))) for share in (split[0], split[0] + split[1])]
    if not has_records:
        return cuts
    begins = [k for k, symbol in enumerate(symbols) if symbol == START and k] + [len(symbols)]
    return [min(begins, key=lambda k: (abs(k - wanted), -k)) for wanted in cuts]


def log_probabilities(scores):
    """Log softmax over all ids: tokens that can never follow are outcomes like any other."""
    return scores - scores.max() - math.log(np.exp(scores - scores.max()).sum())


def bits_of(weights, ids, layers):
    """The bits of each of ids[1:], given those before it, from a zero state."""
    (h, c), bits = np.zeros((2, layers, weights["rnn.weight_hh_l0"].shape[1])), []
    for id_, following in pairwise(ids):
        x = weights["embedding.weight"][id_] if "embedding.weight" in weights else None
        for layer in range(layers):
            of_x, of_h = (weights[f"rnn.weight_{kind}_l{layer}"] for kind in ("ih", "hh"))
            bias = weights[f"rnn.bias_ih_l{layer}"] + weights[f"rnn.bias_hh_l{layer}"]
            gates = (of_x[:, id_] if x is None else of_x @ x) + of_h @ h[layer] + bias
            i, f, g, o = np.split(gates, 4)
            i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
            c[layer] = f * c[layer] + i * np.tanh(g)
            h[layer] = o * np.tanh(c[layer])
            x = h[layer]
        scores = weights["head.weight"] @ x + weights["head.bias"]
        bits.append(-log_probabilities(scores)[following] / math.log(2))
    return bits


def ngram(train, held_out, alphabet, order):
    """Bits of all symbols but start tokens by interpolated Witten-Bell n-grams."""
    followers = defaultdict(Counter)
    for k, symbol in enumerate(train):
        for n in range(min(order - 1, k) + 1):
            followers[tuple(train[k - n : k])][symbol] += 1
    costs = []
    for k, symbol in enumerate(held_out):
        probability = 1 / alphabet
        for n in range(min(order - 1, k) + 1):
            if seen := followers.get(tuple(held_out[k - n : k])):
                total, kinds = sum(seen.values()), len(seen)
                probability = (seen[symbol] + kinds * probability) / (total + kinds)
        if symbol != START:
            costs.append(-math.log2(probability))
    return math.fsum(costs)


def judge(checkpoint, text, split, records, min_count):
    """(bits per character, bits per byte) of everything, by the names of the table that a run prints."""
    metadata, weights = read_checkpoint(checkpoint)
    has_records, layers = records == "line", metadata["model"]["layers"]
    coding = "latin-1" if metadata["unit"] == "byte" else "utf-8"
    whole = Path(text).read_bytes().decode(coding)
    plain = list(whole)
    if has_records:
        plain = [symbol for line in whole.split("\n") if line for symbol in (START, *line, END)]
    counts = Counter(whole)
    symbols = [UNKNOWN if 0 < counts[symbol] < min_count else symbol for symbol in plain]
    known = {symbol: k for k, symbol in enumerate([*metadata["characters"], START, END, UNKNOWN])}
    cuts = [0, *cut(symbols, split, has_records), len(symbols)]
    parts = [symbols[a:b] for a, b in pairwise(cuts)]
    in_file = {START: "", END: "\n"}
    texts = ["".join(in_file.get(s, s) for s in plain[a:b]).encode(coding) for a, b in pairwise(cuts)]
    assert b"".join(texts) == whole.encode(coding), "blank lines, or none at the end"
    found, first = {}, [] if has_records else [START]

    def note(k, name, bits):
        """Bits of the k-th part, for each character and byte."""
        characters = len(texts[k].decode("utf-8", "surrogateescape"))
        found[f"{('train', 'valid', 'test')[k]} part, {name}"] = bits / characters, bits / len(texts[k])

    def cost(read, predicted):
        bits = bits_of(weights, [known[s] for s in read], layers)[-len(predicted) :]
        return math.fsum(b for b, s in zip(bits, predicted, strict=True) if s != START)

    for k in (1, 2):
        if parts[k]:
            note(k, "state carried", cost([*first, *parts[k]], parts[k][has_records:]))
    valid, scored = parts[1], [s for s in parts[1] if s != START]
    begins = range(1, len(valid), 256)
    bits = sum(cost([*first, *valid[b - 1 : b + 256]], valid[b : b + 256]) for b in begins)
    # the first symbol is not scored; nor is the start token, with which a record begins
    note(1, "windows of 256", bits * len(scored) / sum(s != START for s in valid[1:]))
    last = 2 if parts[2] else 1
    alphabet = len(metadata["characters"]) + 2 * has_records + metadata["unknown"]
    note(last, "uniform", math.log2(alphabet) * sum(s != START for s in parts[last]))
    for name, order in (("unigram", 1), ("5-gram", 5)):
        note(last, name, ngram(parts[0], parts[last], alphabet, order))
    for name, compress in {"bz2": bz2.compress, "xz": lzma.compress}.items():
        size = len(compress(texts[0] + texts[last])) - len(compress(texts[0]))
        note(last, f"{name} after the training part", 8 * size)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("text", help="must end with a line end if it has records")
    parser.add_argument("--split", nargs=3, type=float, default=[0.9, 0.05, 0.05])
    parser.add_argument("--records", default="none", choices=["none", "line"])
    parser.add_argument("--min-count", type=int, default=1)
    asked = vars(parser.parse_args())
    for said, (bpc, bpb) in judge(asked.pop("run") / "best.safetensors", **asked).items():
        print(f"{bpc:9.4f} {bpb:9.4f} {bpc * math.log(2):9.4f} {2**bpc:10.4g}  {said}")
