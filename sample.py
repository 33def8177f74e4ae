"""Write text with a trained model, on standard output.

    python sample.py ckpt=outputs/...                   from the start token
    python sample.py ckpt=outputs/... prompt="how "     go on from a prompt
    python sample.py ckpt=outputs/... temperature=1 length=500 seed=7
    python sample.py ckpt=outputs/... samples=20 top_p=0.9 out=runs/twenty
    python sample.py ckpt=outputs/... interactive=true  talk with it

All keys, with their defaults:
"""

from charlstm import command_line, samples, streams
from charlstm.tool_settings import SampleSettings


def main() -> None:
    """Write as the command line asks."""
    with streams.output() as is_watched:
        settings = command_line.ask("sample", SampleSettings)
        if settings.interactive:
            from charlstm.talk import Talk

            Talk(settings).hold()
            return
        last = ""
        for piece in samples.write(settings):
            print(piece, end="", flush=is_watched)
            last = piece or last
        if is_watched and not last.endswith("\n"):
            print()


if __name__ == "__main__":
    main()
