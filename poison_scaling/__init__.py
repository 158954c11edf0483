"""How many poisoned documents backdoor a language model, and how that number grows."""

import os

# Before etils and fsspec are imported. Buckets (gs://) are read through gcsfs, not TensorFlow, which is slow
# to load and not everywhere; and listings are not kept, because other machines write there, too.
os.environ.setdefault("EPATH_USE_TF", "0")
os.environ.setdefault("FSSPEC_GCS", '{"use_listings_cache": false}')
