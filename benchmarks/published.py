"""`python -m benchmarks.published [seeds=10]`: the two published experiments, their losses beside ours.

The published figures are those of one run each, printed with four digits every tenth epoch. The recall is
measured free-running, from the start token and a zero state; the published one was fed the true text.
"""

import statistics

from benchmarks.machine import count, describe
from charlstm.cli import command_line
from charlstm.config.settings import TrainSettings
from charlstm.model.torch_model import Model
from charlstm.sampling import writer
from charlstm.tasks import memorize, memorize_run
from charlstm.training import loop, machine

# the loss of epochs 0, 10, 20, ...
PUBLISHED = {
    "notebook": [
        *(
            2.1684,
            1.809,
            1.7084,
            1.5447,
            1.2709,
            0.8998,
            0.5241,
            0.277,
            0.1345,
            0.0732,
            0.0453,
            0.0308,
            0.0227,
        ),
        *(
            0.018,
            0.015,
            0.013,
            0.0127,
            0.0109,
            0.0099,
            0.0086,
            0.0078,
            0.0072,
            0.0068,
            0.0067,
            0.0066,
            0.0062,
        ),
    ],
    "notebook_batch": [
        *(
            2.3259,
            1.7039,
            1.6237,
            1.4879,
            1.3073,
            0.9638,
            0.5845,
            0.3288,
            0.1696,
            0.0991,
            0.0698,
            0.0534,
            0.0424,
        ),
        *(0.0339, 0.0279, 0.0238, 0.0209, 0.0188, 0.0172, 0.0159, 0.0146, 0.0145, 0.0127, 0.0117, 0.0111),
    ],
}


def losses(experiment: str, *overrides: str) -> tuple[list[float], bool, int | None]:
    """Run an experiment; returns the loss of every epoch, whether its end recalls the sentence, and the
    epochs until a free run was exact for the first time."""
    settings = command_line.compose("train", TrainSettings, [f"experiment={experiment}", *overrides])
    plan = memorize.plan(settings, None)
    ids, vocabulary = plan.ids, plan.vocabulary
    machine.prepare(settings.seed, threads=1)
    model = Model(settings.model, len(vocabulary))
    proven, curve, first = memorize_run.UNPROVEN, [], None
    for progress in loop.of_text(model, ids, plan.config).figures():
        curve.append(progress.loss)
        tried, proven = memorize_run.tried(progress, proven, model, vocabulary, ids)
        first = progress.epoch if tried.recalled else first
    return curve, writer.recall(model.in_numpy(), vocabulary, ids) == len(ids) - 1, first


def main(seeds: int) -> None:
    """Print a table for each experiment: losses beside the published ones, recall, first recall."""
    print(describe())
    for experiment, published in PUBLISHED.items():
        runs = [losses(experiment, f"seed={seed}") for seed in range(seeds)]
        print(f"\nexperiment={experiment}, {seeds} seeds")
        print(
            f"{'epoch':>6} {'published':>10} {'median':>8} {'least':>8} {'most':>8} {'published/median':>17}"
        )
        for epoch in range(0, len(published) * 10, 50):
            ours = [curve[epoch] for curve, _, _ in runs]
            ratio = published[epoch // 10] / statistics.median(ours)
            row = f"{statistics.median(ours):8.4f} {min(ours):8.4f} {max(ours):8.4f} {ratio:17.2f}"
            print(f"{epoch:6} {published[epoch // 10]:10.4f} {row}")
        recalled = sum(known for _, known, _ in runs)
        firsts = sorted(first for _, _, first in runs if first is not None)
        print(f"recalled free-running after the last epoch: {recalled} of {seeds}")
        print(f"first exact free run, epochs: {firsts}")


if __name__ == "__main__":
    main(count("seeds", 10))
