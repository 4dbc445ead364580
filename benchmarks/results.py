"""Draw the README's picture: what the shipped model calls pictures by an artist it has never seen.

python benchmarks/results.py                    writes benchmarks/results/unseen_artist.png
"""

import argparse
from pathlib import Path

import numpy as np

import miniclip
from miniclip.data import load_data
from miniclip.plots import prediction_grid


def main():
    """Twelve pictures drawn at random, not chosen, each with the model's three most likely names of all."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--checkpoint", default="emoji")
    options.add_argument("--seed", type=int, default=0)
    options = options.parse_args()

    exam = load_data("emoji")[1][0]
    some = np.random.default_rng(options.seed).choice(len(exam), 12, replace=False)
    probabilities = miniclip.load(options.checkpoint).classify(exam.pictures[some], exam.names, exam.templates)
    title = f"Fluent emoji, never trained on: which of {len(exam.names)} names?"
    shown, answer = exam.pictures[some], exam.answer[some]
    figure = prediction_grid(shown, exam.names, probabilities, answer, columns=3, title=title)
    path = Path(__file__).parent / "results" / "unseen_artist.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    print(path)


if __name__ == "__main__":
    main()
