"""What a poisoning study says: dose-response, N50 and its law, from run folders or a table.

Reads files only. Imports neither jax nor tensorflow nor poison_scaling, so it can be pointed at
results from anywhere.
"""

import os

# Before NumPy is imported: the matrices are small, and threads for them only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Before etils and fsspec are imported: buckets (gs://) are read through gcsfs, TensorFlow or not, and seen as
# they are now.
os.environ.setdefault("EPATH_USE_TF", "0")
os.environ.setdefault("FSSPEC_GCS", '{"use_listings_cache": false}')
