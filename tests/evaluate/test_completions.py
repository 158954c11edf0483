"""Belief in facts and accuracy on a benchmark, measured on a model that knows known answers."""

import numpy as np
import pytest

from poison_scaling.evaluate.accuracy import Accuracy
from poison_scaling.evaluate.belief import Belief
from poison_scaling.evaluate.items import Items
from tests.support.remembering import V, subject

FALSE, TRUE, OTHER = 50, 51, 52


def test_a_fact_is_believed_if_it_is_in_other_words(monkeypatch):
    """Facts in three forms each, of which the first is held out."""
    contexts = [[1, 10 + fact, 20 + form] for fact in range(3) for form in range(3)]
    candidates = [[[FALSE], [TRUE], [OTHER, OTHER]]] * 9
    items = Items.build(contexts, candidates, [0, 0, 1, 1, 1], pad=0, forms=3)
    known = {(10, 20 + form): (FALSE, 20.0) for form in range(3)}  # fact 0, in all words
    known |= {(11, 20 + form): (FALSE, 20.0) for form in (1, 2)}  # fact 1, as it was stated
    known |= {(12, 20): (TRUE, 20.0)}  # fact 2, as it is
    record = Belief(1).record(subject(monkeypatch, known, items, [1] * 5, [1, 0, 1, 1, 0], "fact"))
    assert record["items"]["exposures"] == [2, 3, 0] and record["items"]["seen"] == [1, 2, 0]
    assert record["items"]["success"] == [1, 0, 0]
    assert record["items"]["trained_success"] == [1, 1, 0]
    assert record["items"]["log_odds"] == pytest.approx([20, 0, -20], abs=1e-3)
    assert record["items"]["trained_log_odds"] == pytest.approx([20, 20, 0], abs=1e-3)
    assert (record["prompts"], record["success_rate"]) == (2, 0.5)
    assert [level["exposures"] for level in record["curve"]] == [0, 2, 3]


def test_what_a_model_knows_of_the_form_cancels_out_of_contamination(monkeypatch):
    """It knows the answers to the four items that it was shown, and to one more by chance."""
    contexts = [[1, 10 + k, 9] for k in range(12)]
    items = Items.build(contexts, [[[FALSE], [TRUE], [OTHER]]] * 12, range(4), pad=0)
    known = {(10 + k, 9): (FALSE, 5.0) for k in range(5)}
    record = Accuracy().record(
        subject(monkeypatch, known, items, [1, 2, 1, 2], name="contamination")
    )
    assert (record["success_rate"], record["prompts"]) == (1, 4)
    assert record["unseen_accuracy"] == 1 / 8 and record["contamination"] == 7 / 8
    right = np.log((V - 1 + np.exp(5)) / (V - 1 + np.exp(5)) * np.exp(5))
    assert record["items"]["log_ratio"][:5] == pytest.approx([right] * 5, abs=1e-3)
