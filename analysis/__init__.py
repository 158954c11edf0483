"""What a poisoning study says: dose-response, N50 and its law, from run folders or a table.

Reads files only. Imports neither jax nor tensorflow nor poison_scaling, so it can be pointed at
results from anywhere.
"""

import os

# Before NumPy is imported: the matrices are small, and threads for them only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
