"""``python -m tests.write_vectors`` writes tests/vectors/estimate.json after the formula or the format has changed."""

import json

from generator.estimate_command import build_estimator
from generator.records import HubFacts

from .test_estimate import GPT2, H100, LAPTOP, QWEN, VECTORS, vectors

if __name__ == "__main__":
    facts = [HubFacts(hub_id="test/qwen", config=QWEN), HubFacts(hub_id="test/gpt2", config=GPT2)]
    VECTORS.write_text(json.dumps(vectors(build_estimator(facts, [H100, LAPTOP]))) + "\n", encoding="utf-8")
