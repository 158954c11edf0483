"""Statistics: dose-response, laws of N50, components of variance, and estimates with intervals."""
