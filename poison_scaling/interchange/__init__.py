"""Models from elsewhere and for elsewhere: import, export with model cards, evaluation without a study."""
