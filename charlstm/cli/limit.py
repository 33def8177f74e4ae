"""Find how much a model can learn by heart: the longest random text that it writes back without a mistake.

    charlstm limit                                              of an LSTM of 1 x 16
    charlstm limit "model.hidden=[16,35]" "model.layers=[1,3]"  of four models, one after another
    charlstm limit train.epochs=300 out=runs/limit              with fewer passes over each text

Each trial is a training run, task=memorize, on random characters, with a directory of its own in out. Texts
are doubled until one is not recalled with any of so many seeds; then the space between is bisected. Bits per
parameter are those of the longest text that was recalled; soft are the bits that the weights save, recalled
or not. A search that was stopped is resumed when it is asked for again with the same out. All keys, with
their defaults:
"""

import logging
import sys

from charlstm.cli import command_line, terminal
from charlstm.config.tool_settings import LimitSettings
from charlstm.limits import search
from charlstm.runs.report import heard_by, quoted

log = logging.getLogger("charlstm.limit")


def main() -> None:
    code = 0
    with terminal.output():
        settings = command_line.ask("limit", LimitSettings, terminal.as_started(__doc__))
        search.check(settings)
        handler = terminal.Terminal(sys.stdout)
        handler.setFormatter(terminal.Visible())
        with heard_by(handler, name=log.name):  # trials have a log of their own
            try:
                code = search.find(settings, terminal.this_command)
            except OSError as error:
                terminal.print_error(f"out = {settings.out}: the search cannot go on: {error}")
                sys.exit(1)
            if code:
                arguments = [argument for argument in sys.argv[1:] if not argument.startswith("out=")]
                arguments.append(f"out={settings.out}")
                again = " ".join([terminal.this_command("limit"), *map(quoted, arguments)])
                log.info(f"{'Stopped' if code > 128 else 'Not complete'}; to resume: {again}")
    sys.exit(code)
