"""Make one HTML file of a model: to write with it, to read with it and to look inside, in any browser.

    charlstm page ckpt=outputs/... out=model.html
    charlstm page ckpt=runs/a,runs/b path=book.txt weights=int8     two models side by side

It needs no server and no network: weights and a small program are in it. All keys, with their defaults:
"""

from pathlib import Path

from charlstm import api, files
from charlstm.cli import command_line, terminal
from charlstm.cli.look import excerpt
from charlstm.cli.score import checkpoint_names
from charlstm.config.tool_settings import PageSettings
from charlstm.page.document import document


def main() -> None:
    with terminal.output():
        settings = command_line.ask("page", PageSettings, terminal.as_started(__doc__))
        names = checkpoint_names(settings.ckpt or "")
        if len(names) not in (1, 2):
            raise ValueError("ckpt: name a checkpoint or run directory, such as ckpt=outputs/..., or two")
        models = [(name, api.load(name)) for name in names]
        page = document(models, settings.weights, excerpt(settings, models[0][1])).encode()
        with files.written_to(settings.out), files.whole(Path(settings.out)) as file:
            file.write(page)
        print(f"{settings.out}: {len(page) / 1e6:.2f} MB; open it in a browser")
