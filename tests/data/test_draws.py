"""Random numbers by address."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from poison_scaling.data import draws

sizes = st.integers(1, 5000)
seeds = st.integers(0, 2**63)


@given(size=sizes, seed=seeds)
def test_a_permutation_takes_every_place_once(size, seed):
    order = draws.Permutation(size, draws.key(seed))
    assert np.array_equal(np.sort(order(np.arange(size))), np.arange(size))


@given(size=sizes, seed=seeds, data=st.data())
def test_a_place_does_not_depend_on_what_it_is_asked_with(size, seed, data):
    order = draws.Permutation(size, draws.key(seed))
    some = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1)))
    assert np.array_equal(order(some), order(np.arange(size))[some])


@given(size=sizes, seed=seeds)
def test_a_permutation_is_undone_by_its_inverse(size, seed):
    order, numbers = draws.Permutation(size, draws.key(seed)), np.arange(size)
    assert np.array_equal(order.inverse(order(numbers)), numbers)
    assert np.array_equal(order(order.inverse(numbers)), numbers)


def test_a_permutation_of_a_trillion_needs_no_memory():
    order = draws.Permutation(10**12, draws.key(0))
    places = order(np.array([0, 1, 10**12 - 1]))
    assert len(set(places.tolist())) == 3 and places.max() < 10**12


def test_orders_are_evenly_spread():
    # Each of 5 values is first in about a fifth of 2,000 orders: 4 standard deviations are 72.
    first = [int(draws.Permutation(5, draws.key(seed))(np.array([0]))[0]) for seed in range(2000)]
    assert np.abs(np.bincount(first, minlength=5) - 400).max() < 72


@given(seed=seeds, low=st.integers(-100, 100), width=st.integers(0, 1000))
def test_integers_include_both_ends(seed, low, width):
    drawn = draws.integers(draws.key(seed), np.arange(300), low, low + width)
    assert drawn.min() >= low and drawn.max() <= low + width
    if width < 3:
        assert set(drawn) == set(range(low, low + width + 1))


def test_fractions_are_uniform():
    drawn = draws.fractions(draws.key(7, "x"), np.arange(100_000))
    counts = np.histogram(drawn, bins=20, range=(0, 1))[0]
    assert np.abs(counts - 5000).max() < 5 * np.sqrt(5000)
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.02


def test_draws_never_change():
    """Positions of published studies hang on these numbers."""
    stream = draws.key(0, "poison rows", 14_104)
    assert hex(int(stream)) == "0xe7c0d3e6987ed8ce"
    assert draws.Permutation(14_104, stream)(np.arange(5)).tolist() == [
        2817,
        1676,
        13783,
        3272,
        1447,
    ]
    assert draws.integers(draws.key(1, "a"), np.arange(5), 0, 99).tolist() == [21, 41, 3, 58, 47]
