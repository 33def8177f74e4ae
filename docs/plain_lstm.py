"""`python docs/plain_lstm.py model.safetensors "prompt"`: a model of `charlstm export` in plain PyTorch."""

import json
import sys

import torch
from safetensors import safe_open

with safe_open(sys.argv[1], "pt") as file:
    said = {key: json.loads(value) for key, value in file.metadata().items()}
    weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
V, kind = len(weights["head.bias"]), {"lstm": "LSTM", "gru": "GRU"}.get(said["cell"], "RNN")
more = {"nonlinearity": said["cell"][4:]} if kind == "RNN" else {}
model = torch.nn.ModuleDict({"rnn": getattr(torch.nn, kind)(V, said["hidden"], said["layers"], **more)})
model["head"] = torch.nn.Linear(said["hidden"], V)
model.load_state_dict(weights)
ids = [said["start"], *map(said["characters"].index, sys.argv[2])]
for _ in range(int(sys.argv[3]) if len(sys.argv) > 3 else 100):  # slow: all is read anew for each character
    output, _ = model["rnn"](torch.nn.functional.one_hot(torch.tensor(ids), V).float())
    ids.append(int(model["head"](output)[-1, : said["start"]].argmax()))
print("".join(said["characters"][i] for i in ids[1:]))
