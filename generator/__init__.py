"""Finetune Atlas: curated catalog, Hub snapshot and measurements in; a bilingual guide out."""

import os

# The equations solved here have a few hundred unknowns: NumPy's threads would spend more time waiting for each other.
# Set before the first import of NumPy, which reads it once.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
