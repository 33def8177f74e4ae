"""Take a model elsewhere.

    charlstm export ckpt=outputs/... format=torch out=model.safetensors   for a plain nn.LSTM and nn.Linear
    charlstm export ckpt=outputs/... format=hf out=folder                 as Hugging Face's hub has models
    charlstm export ckpt=outputs/... format=onnx out=model.onnx           a graph with explicit states

All keys, with their defaults:
"""

from pathlib import Path

from charlstm import checkpoint, export
from charlstm.cli import command_line, terminal
from charlstm.config.tool_settings import ExportSettings, ImportSettings
from charlstm.files import written_to

TAKE_IN = """Make a checkpoint of a model from elsewhere: a plain nn.LSTM, nn.GRU or nn.RNN, and an nn.Linear.

    charlstm import path=weights.safetensors characters="abc " out=model.safetensors

All keys, with their defaults:
"""


def main() -> None:
    with terminal.output():
        settings = command_line.ask("export", ExportSettings, terminal.as_started(__doc__))
        if not settings.ckpt or not settings.out:
            raise ValueError("ckpt, out: name a checkpoint or run directory, and what is to be written")
        trained = checkpoint.load(Path(settings.ckpt))
        with written_to(settings.out):
            export.FORMATS[settings.format](trained, Path(settings.out))
        print(f"{settings.format}  {settings.out}")


def take_in() -> None:
    """`charlstm import`."""
    with terminal.output():
        settings = command_line.ask("import", ImportSettings, terminal.as_started(TAKE_IN))
        if not settings.path or not settings.out:
            raise ValueError("path, out: name a safetensors file, and the checkpoint to write")
        trained = export.take_in(Path(settings.path), settings.characters)
        with written_to(settings.out):
            checkpoint.save(trained, Path(settings.out))
        print(f"checkpoint  {settings.out}")
