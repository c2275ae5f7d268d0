"""Ten real models that take a moment to load: forests of deep trees, kept compressed as people keep them.

Loading one is mostly decompression and takes one to two seconds; one row costs about a millisecond."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("NAMES", "train_forests")

NAMES = tuple(f"forest-{number}" for number in range(10))
ROWS = 32_000
TREES = 24
NODE_BYTES = 138
NODES_A_ROW = 1.67


def train_forests(folder: Path) -> int:
    """Train and save what is missing below `folder`; the bytes that a loaded forest needs. About 30 s."""
    missing = [name for name in NAMES if not (folder / name / "model.joblib").exists()]
    with ProcessPoolExecutor(2) as workers:
        list(workers.map(partial(_train, folder), missing))
    return int(ROWS * TREES * NODES_A_ROW * NODE_BYTES)  # measured once: the resident set grows by this


def _train(folder: Path, name: str) -> None:
    import joblib  # noqa: PLC0415  the extra `real`
    import numpy as np  # noqa: PLC0415
    from sklearn.datasets import load_digits  # noqa: PLC0415
    from sklearn.ensemble import ExtraTreesClassifier  # noqa: PLC0415

    digits = load_digits()
    chance = np.random.default_rng(NAMES.index(name))
    picked = chance.integers(0, len(digits.data), ROWS)
    noisy = (digits.data[picked] + chance.normal(0, 4, (ROWS, digits.data.shape[1]))).astype("f4")
    forest = ExtraTreesClassifier(TREES, max_features=1, random_state=7)
    (folder / name).mkdir(parents=True, exist_ok=True)
    draft = folder / name / "draft"
    joblib.dump(forest.fit(noisy, digits.target[picked]), draft, compress=("bz2", 1))
    draft.rename(folder / name / "model.joblib")
