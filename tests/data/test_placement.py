"""Contract 1: where a poison stands is a pure function of (seed, rows, schedule, k)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poison_scaling.config import Uniform
from poison_scaling.data import placement
from poison_scaling.errors import InputError

seeds = st.integers(0, 2**32)


@st.composite
def cases(draw):
    rows = draw(st.integers(1, 2000))
    row_tokens = draw(st.integers(1, 300))
    lengths = draw(st.lists(st.integers(1, row_tokens), max_size=min(rows, 60)))
    return rows, row_tokens, np.array(lengths, np.int64)


@given(case=cases(), seed=seeds)
def test_no_poison_is_cut_and_none_meets_another(case, seed):
    rows, row_tokens, lengths = case
    placed = placement.place(Uniform(), seed, rows, row_tokens, lengths)
    assert len(set(placed.rows_N.tolist())) == lengths.size
    assert ((placed.rows_N >= 0) & (placed.rows_N < rows)).all()
    assert ((placed.offsets_N >= 0) & (placed.offsets_N + lengths <= row_tokens)).all()


@given(case=cases(), seed=seeds, data=st.data())
def test_a_smaller_dose_is_a_subset(case, seed, data):
    rows, row_tokens, lengths = case
    n = data.draw(st.integers(0, lengths.size))
    large = placement.place(Uniform(), seed, rows, row_tokens, lengths)
    small = placement.place(Uniform(), seed, rows, row_tokens, lengths[:n])
    assert np.array_equal(small.rows_N, large.rows_N[:n])
    assert np.array_equal(small.offsets_N, large.offsets_N[:n])


@given(case=cases(), seed=seeds, data=st.data())
def test_what_is_seen_adds_up(case, seed, data):
    rows, row_tokens, lengths = case
    placed = placement.place(Uniform(), seed, rows, row_tokens, lengths)
    assert placed.seen(0) == (0, 0)
    assert placed.seen(rows) == (lengths.size, lengths.sum())
    until = data.draw(st.integers(0, rows))
    batch = data.draw(st.integers(1, 16))
    steps = {r // batch for r in placed.rows_N.tolist() if r < until}
    assert placed.poisoned_steps(until, batch) == len(steps)


def test_rows_and_offsets_are_uniform():
    lengths = np.full(4000, 10)
    placed = placement.place(Uniform(), 3, 100_000, 109, lengths)
    for values, top in ((placed.rows_N, 100_000), (placed.offsets_N, 100)):
        counts = np.histogram(values, bins=10, range=(0, top))[0]
        assert np.abs(counts - 400).max() < 4 * np.sqrt(400)


def test_other_seeds_place_elsewhere():
    lengths = np.full(50, 10)
    one, two = (placement.place(Uniform(), s, 10_000, 100, lengths) for s in (0, 1))
    assert len(set(one.rows_N) & set(two.rows_N)) < 5


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="3 poisoned documents do not fit into the 2 rows"):
        placement.place(Uniform(), 0, 2, 10, np.array([1, 1, 1]))
    with pytest.raises(InputError, match="poison 1 has 11 tokens, and a row data.row_tokens=10"):
        placement.place(Uniform(), 0, 5, 10, np.array([10, 11]))
