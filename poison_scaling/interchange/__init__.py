"""Models from elsewhere and for elsewhere: import, export with model cards, and evaluation without a study."""
