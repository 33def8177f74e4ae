"""`python benchmarks/verify.py model.safetensors text.txt`: does an LSTM write this text? Needs NumPy alone.

It reads its own output only, from the start token and a zero state, in float64, and of the file nothing else
than weights and alphabet. Bits: what tells this text from all with the same counts of each character, or its
xz file if that is smaller, less the order of the alphabet. Exit code 0: yes.
"""

import json
import lzma
import sys
from collections import Counter
from math import lgamma, log, prod
from pathlib import Path

import numpy as np

KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
sys.excepthook = lambda *error: print("no: it is no such file:", error[1])
blob, text = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]).read_bytes().decode()
start, end, w, most = 8 + int.from_bytes(blob[:8], "little"), 0, {}, lambda n: lgamma(n + 1) / log(2)
header = json.loads(blob[8:start].decode(), object_pairs_hook=list)  # a name that stands twice would be seen
entries = {name: dict(entry) for name, entry in header if name != "__metadata__"}
(metadata,) = (json.loads(dict(entry)["charlstm"]) for name, entry in header if name == "__metadata__")
for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
    begin, end = end, end + 4 * prod(entry["shape"])
    if (entry["dtype"], entry["data_offsets"]) != ("F32", [begin, end]):
        sys.exit(f"no: {name} is not where it should be, or no float32")
    w[name] = np.frombuffer(blob[start + begin : start + end], "<f4").reshape(entry["shape"]).astype(float)
alphabet, n = metadata["characters"], end // 4
if len(entries) != len(header) - 1 or start + end != len(blob):
    sys.exit("no: the file has more than its arrays, or a name twice")
V, H, L = len(alphabet) + 2, w["head.weight"].shape[1], sum("weight_hh" in name for name in w)
table = w.setdefault("embedding.weight", np.eye(V))  # one-hot vectors are no parameters
shapes = {"head.weight": (V, H), "head.bias": (V,), "embedding.weight": (V, table.shape[1])}
for k in range(L):
    sizes = (4 * H, H if k else table.shape[1]), (4 * H, H), (4 * H,), (4 * H,)
    shapes |= {f"rnn.{kind}_l{k}": size for kind, size in zip(KINDS, sizes, strict=True)}
if {name: array.shape for name, array in w.items()} != shapes or len(set(alphabet)) < len(alphabet) or not L:
    sys.exit("no: these are not the arrays and the alphabet of an LSTM")
if not all(np.isfinite(array).all() for array in w.values()):
    sys.exit("no: there is a number that is not finite")
h, c, chosen = np.zeros((L, H)), np.zeros((L, H)), V - 2
for k, wanted in enumerate([*map(alphabet.find, text), V - 1]):
    x = table[chosen]
    for l in range(L):
        ih, hh, bias_ih, bias_hh = (w[f"rnn.{kind}_l{l}"] for kind in KINDS)
        i, f, g, o = np.split(ih @ x + hh @ h[l] + bias_ih + bias_hh, 4)
        i, f, o = ((1 + np.tanh(gate / 2)) / 2 for gate in (i, f, o))
        c[l] = f * c[l] + i * np.tanh(g)
        h[l] = x = o * np.tanh(c[l])
    scores = w["head.weight"] @ x + w["head.bias"]
    scores[V - 2] = -np.inf  # nobody writes the start token
    chosen = int(scores.argmax())
    if chosen != wanted:
        sys.exit(f"no: {k:,} of {len(text) + 1:,} characters are right before the first error")
bits = min(most(len(text)) - sum(map(most, Counter(text).values())), 8 * len(lzma.compress(text.encode())))
bits = max(bits - most(len(alphabet)), 0)
print(f"yes: {len(text):,} characters, {bits:,.0f} bits, {n:,} parameters, {bits / n:.3f} bits each")
