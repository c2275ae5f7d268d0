"""Trains a classifier of the digits data and saves it as an MLflow model.

    python mlflow_model.py FOLDER

A program of its own, so that what MLflow warns of when it is imported concerns nobody else.
"""

from __future__ import annotations

import sys

from mlflow.sklearn import save_model
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

if __name__ == "__main__":
    digits = load_digits()
    with threadpool_limits(1):
        fitted = LogisticRegression(C=0.01, max_iter=5000).fit(digits.data, digits.target)
    save_model(fitted, sys.argv[1], serialization_format="cloudpickle", pip_requirements=[])
