"""``python -m tests.write_vectors`` writes tests/vectors/estimate.json after the formula or the format has changed."""

import json

from .test_estimate import VECTORS, make_estimator, vectors

if __name__ == "__main__":
    VECTORS.write_text(json.dumps(vectors(make_estimator())) + "\n", encoding="utf-8")
