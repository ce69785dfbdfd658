"""How often the 95 % intervals of `compare` hold the true accuracy, beside a bootstrap, in simulated comparisons.

    python benchmarks/coverage.py [--comparisons 1000]

Every comparison has one method, 40 samples per person, and normal effects of person, seed and sample.
"""

import argparse

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from msafusion.compare.statistics import estimate

CASES = ((3, 3), (5, 3), (10, 3), (10, 1), (10, 10))
"""People and seeds."""
TRUE, PEOPLE, SEEDS, SAMPLES = 0.7, 0.1, 0.05, 0.4
"""Mean, and the standard deviations."""
EACH, DRAWS = 40, 400
"""Samples per person, and draws of the bootstrap."""


def bootstrap(scores: np.ndarray, draw: np.random.Generator) -> tuple[float, float]:
    """The percentile interval of scores (seeds, samples), people and seeds drawn again."""
    means = scores.reshape(len(scores), -1, EACH).mean(2)
    drawn = [
        means[np.ix_(draw.integers(len(means), size=len(means)), draw.integers(means.shape[1], size=means.shape[1]))]
        for _ in range(DRAWS)
    ]
    low, high = np.quantile([some.mean() for some in drawn], [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Simulate, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=1000)
    number = parser.parse_args().comparisons
    table = Table("people, seeds", "random effects", "bootstrap", title=f"coverage of {number} intervals of 95 %")
    for people, seeds in CASES:
        draw, held = np.random.default_rng(0), np.zeros(2)
        for _ in track(range(number), f"{people} people, {seeds} seeds"):
            person = np.repeat(draw.normal(0, PEOPLE, people), EACH)
            of_seed = draw.normal(0, SEEDS, (seeds, 1)) * (seeds > 1)
            scores = TRUE + person + of_seed + draw.normal(0, SAMPLES, (seeds, len(person)))
            found = estimate(scores, np.repeat(np.arange(people), EACH))
            assert found.low is not None
            assert found.high is not None
            low, high = bootstrap(scores, draw)
            held += [found.low <= TRUE <= found.high, low <= TRUE <= high]
        table.add_row(f"{people}, {seeds}", *(f"{100 * part:.1f} %" for part in held / number))
    Console().print(table)


if __name__ == "__main__":
    main()
