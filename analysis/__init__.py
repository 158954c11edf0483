"""What a poisoning study says: dose-response, N50 and its law, from run folders or a table.

Reads files only. Imports neither jax nor tensorflow nor poison_scaling, so it can be pointed at
results from anywhere.
"""
