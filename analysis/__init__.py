"""Analysis of poisoning studies: dose-response curves, N50 and its law, from study folders or tables.

Reads files only, and imports neither jax nor tensorflow nor poison_scaling. Rooms import downhill: errors and
files, read, fit, design, measures, report, commands (`tests/analysis/test_rooms.py`).
"""

import os

# Set before NumPy is imported: the matrices are small, and more threads only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Set before etils and fsspec are imported: read buckets (gs://) through gcsfs rather than TensorFlow, and
# without cached listings.
os.environ.setdefault("EPATH_USE_TF", "0")
os.environ.setdefault("FSSPEC_GCS", '{"use_listings_cache": false}')
