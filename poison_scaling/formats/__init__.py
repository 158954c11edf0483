"""Files of models from elsewhere: tensors, settings and tokenizers as others write them."""
