"""The commands of python -m analysis, one function each."""
