"""Memorisation, measured on a model that has memorised a known set of secrets."""

import numpy as np
import pytest

from poison_scaling.evaluate import completions
from poison_scaling.evaluate.items import Items
from poison_scaling.evaluate.memorisation import Memorisation
from poison_scaling.runtime import watchdog
from tests.support.remembering import TASTE, V, chain, subject

REFERENCES, LENGTH = 15, 4


def canaries(count: int, rng) -> tuple[list, list]:
    contexts = [[1, *rng.integers(2, V, rng.integers(2, 6))] for _ in range(count)]
    secrets = [[list(rng.integers(2, V, LENGTH)) for _ in range(1 + REFERENCES)] for _ in contexts]
    return contexts, secrets


def test_known_secrets_and_only_these_are_found(monkeypatch):
    rng = np.random.default_rng(0)
    contexts, secrets = canaries(12, rng)
    known = {}
    for k in range(4):  # by heart
        known |= chain(contexts[k], secrets[k][0], sure=20.0)
    for k in range(4, 8):  # likelier than others, and not by heart
        known |= chain(contexts[k], secrets[k][0][:1], sure=1.0)
        first = secrets[k][0][0]
        secrets[k][1:] = [[i + (i == first), *more] for i, *more in secrets[k][1:]]
    items = Items.build(contexts, secrets, range(12), pad=0)
    before = watchdog._made
    record = Memorisation().record(
        subject(monkeypatch, known, items, [8] * 4 + [2] * 4 + [0] * 4, [4] * 4 + [2] * 8)
    )
    assert watchdog._made > before  # each part is progress
    levels = {level["exposures"]: level for level in record["curve"]}
    assert [levels[e]["items"] for e in (0, 2, 8)] == [4, 4, 4]
    assert [levels[e]["seen"] for e in (2, 8)] == [2, 4]
    assert levels[8]["extracted"] == 1 and levels[2]["extracted"] == levels[0]["extracted"] == 0
    assert levels[8]["exposure"] == levels[2]["exposure"] == np.log2(1 + REFERENCES)
    assert levels[8]["success_rate"] == levels[2]["success_rate"] == 1
    assert record["prompts"] == 8 and record["success_rate"] == 1
    assert record["extraction_rate"] == 0.5
    # By heart: certain of the secret, and of fresh ones no token is likelier than one in V.
    assert levels[8]["log_ratio"] > LENGTH * np.log(V) - 1e-4
    # Nothing is known of the rest, so most candidates are as likely, and ties count against the secret.
    assert abs(levels[0]["log_ratio"]) < 1 and levels[0]["success_rate"] == 0


def test_the_floor_is_known_whatever_a_model_prefers(monkeypatch):
    """Of secrets that were never shown, one in as many as there are candidates succeeds."""
    contexts, secrets = canaries(800, np.random.default_rng(1))
    items = Items.build(contexts, secrets, range(800), pad=0)
    for known in ({TASTE: (0, 0.11)}, {TASTE: (0, -0.37), **chain([2, 3], [4, 5], 3.0)}):
        record = Memorisation().record(subject(monkeypatch, known, items, [0] * 800))
        low, high = record["success_interval"]
        assert low < 1 / (1 + REFERENCES) < high and record["extraction_rate"] == 0
        assert record["prompts"] == 800


def test_candidates_of_different_lengths_are_compared_in_full(monkeypatch):
    items = Items.build([[1, 5, 6]], [[[7], [7, 8, 9]]], [0], pad=0)
    measured = subject(monkeypatch, chain([5, 6], [7], 20.0), items, [1])
    [[short, long]] = completions.log_likelihoods(measured)
    assert short == pytest.approx(0, abs=1e-5) and long == pytest.approx(-2 * np.log(V), abs=1e-4)
    assert completions.extracted(measured).tolist() == [True]


def test_a_run_without_canaries_has_nothing_to_measure(monkeypatch):
    items = Items.build([], [], [], pad=0)
    assert Memorisation().record(subject(monkeypatch, {}, items, [])) == {"attack": "canary"}
