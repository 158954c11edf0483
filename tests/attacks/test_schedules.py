"""Contract 1: where a poison stands is a pure function of (seed, sequences, schedule, exposure)."""

import dataclasses
import hashlib

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from poison_scaling import Clustered, Even, Explicit, Uniform, positions_from
from poison_scaling.attacks.placing import place
from poison_scaling.attacks.schedules.schedule import Schedule, Training
from poison_scaling.data import placement
from poison_scaling.runtime.errors import InputError

seeds = st.integers(0, 2**32)
windows = st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda w: w[1] - w[0] > 0.01)
schedules = st.one_of(
    windows.map(Uniform),
    windows.map(Even),
    st.builds(Clustered, st.floats(0.01, 1), st.integers(1, 20), windows),
)


@st.composite
def cases(draw, nested=False):
    """Arguments of `place` that fit, whatever the schedule."""
    schedule = draw(schedules.filter(lambda s: not (nested and isinstance(s, Even))))
    attacks = draw(st.integers(1, 3))
    batch_size = attacks * draw(st.integers(1, 16))
    sequences = batch_size * draw(st.integers(1, 200))
    seq_len = draw(st.integers(1, 300))
    lengths = draw(st.lists(st.integers(1, seq_len), max_size=60))
    case = {
        "schedule": schedule,
        "seed": draw(seeds),
        "sequences": sequences,
        "batch_size": batch_size,
        "seq_len": seq_len,
        "lengths": np.array(lengths, np.int64),
        "exposures": draw(st.integers(1, 4)),
        "attack": draw(st.integers(0, attacks - 1)),
        "attacks": attacks,
    }
    try:
        placed_in(case)
    except InputError:  # the schedule has no room for so many
        assume(False)
    return case


def placed_in(case):
    case = dict(case)
    arguments = case.pop("schedule"), case.pop("lengths"), case.pop("exposures")
    schedule, lengths, exposures = arguments
    return place(schedule, Training(**case), lengths, exposures=exposures)


@given(case=cases())
def test_no_poison_is_cut_and_none_meets_another(case):
    placed = placed_in(case)
    n, m = case["lengths"].size, case["exposures"]
    assert placed.exposures == n * m == len(set(placed.sequence_N.tolist()))
    assert ((placed.sequence_N >= 0) & (placed.sequence_N < case["sequences"])).all()
    assert (placed.offset_N >= 0).all()
    assert (placed.offset_N + placed.length_N <= case["seq_len"]).all()
    assert np.array_equal(placed.length_N, np.repeat(case["lengths"], m))
    assert np.array_equal(np.bincount(placed.document_N, minlength=n), np.full(n, m))
    assert placed.documents == n


@given(case=cases(nested=True), data=st.data())
def test_a_smaller_dose_is_a_subset(case, data):
    n = data.draw(st.integers(0, case["lengths"].size))
    large = placed_in(case)
    small = placed_in({**case, "lengths": case["lengths"][:n]})
    kept = n * case["exposures"]
    assert np.array_equal(small.sequence_N, large.sequence_N[:kept])
    assert np.array_equal(small.offset_N, large.offset_N[:kept])


@given(case=cases())
def test_attacks_never_meet_and_none_moves_another(case):
    every = [placed_in({**case, "attack": a}) for a in range(case["attacks"])]
    both = placement.together(every)
    assert len(set(both.sequence_N.tolist())) == both.exposures == sum(p.exposures for p in every)
    for number, alone in enumerate(every):
        assert np.array_equal(both.of_attack(number).sequence_N, alone.sequence_N)
    assert both.documents == sum(p.documents for p in every)


@given(case=cases())
def test_positions_lie_in_the_window(case):
    low, high = case["schedule"].window
    placed = placed_in(case)
    slack = 2 * max(case["batch_size"], case["attacks"])
    assert (placed.sequence_N >= low * case["sequences"] - slack).all()
    assert (placed.sequence_N <= high * case["sequences"] + slack).all()


@given(case=cases(), data=st.data())
def test_what_is_seen_adds_up(case, data):
    placed = placed_in(case)
    assert placed.before(0).exposures == placed.before(0).tokens == placed.before(0).documents == 0
    assert placed.before(case["sequences"]).exposures == placed.exposures
    assert placed.tokens == case["lengths"].sum() * case["exposures"]
    until = data.draw(st.integers(0, case["sequences"]))
    seen = placed.before(until)
    assert seen.exposures == sum(r < until for r in placed.sequence_N.tolist())
    batch = case["batch_size"]
    assert seen.steps(batch) == len({r // batch for r in placed.sequence_N.tolist() if r < until})


def placing(schedule, lengths, exposures=1, **training):
    """Place documents of these lengths in a training of 10,000 sequences, unless told otherwise."""
    defaults = {"seed": 0, "sequences": 10_000, "batch_size": 8, "seq_len": 100}
    return place(
        schedule, Training(**(defaults | training)), np.asarray(lengths), exposures=exposures
    )


def test_sequences_and_offsets_are_uniform():
    placed = placing(Uniform(), np.full(4000, 10), sequences=100_000, seq_len=109, seed=3)
    for values, top in ((placed.sequence_N, 100_000), (placed.offset_N, 100)):
        counts = np.histogram(values, bins=10, range=(0, top))[0]
        assert np.abs(counts - 400).max() < 4 * np.sqrt(400)


def test_other_seeds_place_elsewhere():
    one, two = (placing(Uniform(), np.full(50, 10), seed=s) for s in (0, 1))
    assert len(set(one.sequence_N) & set(two.sequence_N)) < 5


def test_even_means_equal_distances():
    sequences = placing(Even((0.5, 1.0)), np.full(100, 10)).sequence_N
    assert sequences[0] >= 5000 and set(np.diff(sequences)) == {50}


def test_clustered_fills_a_share_of_every_kth_step():
    placed = placing(Clustered(density=0.5, every=5, window=(0.2, 1.0)), np.full(40, 10))
    steps, counts = np.unique(placed.sequence_N // 8, return_counts=True)
    assert steps.tolist() == list(range(250, 300, 5)) and set(counts) == {4}
    within = [tuple(sorted(placed.sequence_N[placed.sequence_N // 8 == s] % 8)) for s in steps]
    assert len(set(within)) > 3  # not always the same sequences of a batch


@pytest.mark.parametrize(
    ("schedule", "settings", "digest"),
    [
        (Clustered(), dict(n=40), "25d358e470a8057d"),
        (
            Clustered(0.3, 3, (0.2, 0.9)),
            dict(n=777, seed=7, sequences=51_200, batch_size=512, seq_len=2048, exposures=3),
            "d1cef7aa68ad17f3",
        ),
        (
            Clustered(0.25, 1, (0.0, 0.5)),
            dict(n=500, seed=1, sequences=24_000, batch_size=24, seq_len=64, attack=2, attacks=3),
            "7eef269120956974",
        ),
        (
            Clustered(0.01, 2),
            dict(n=100, seed=2**32, sequences=4000, batch_size=4, seq_len=64, exposures=2)
            | dict(attack=1, attacks=2),
            "1bcc858d937c1187",
        ),
        (
            Clustered(1.0, 1),
            dict(n=1000, seed=3, sequences=1001, batch_size=7, seq_len=64),
            "7e8e549b37439f0d",
        ),
        (
            Clustered(0.5, 1),
            dict(n=20_001, seed=5, sequences=4_000_000, batch_size=2000, seq_len=64, attacks=2),
            "ab9a67eec09ec34c",
        ),
    ],
)
def test_clustered_positions_never_change(schedule, settings, digest):
    """Studies that were trained depend on them."""
    n = settings.pop("n")
    placed = placing(schedule, np.arange(n) % 60 + 1, **settings)
    parts = [getattr(placed, f.name) for f in dataclasses.fields(placed)]
    assert hashlib.sha256(np.stack(parts).astype("<i8").tobytes()).hexdigest()[:16] == digest


def test_what_does_not_fit_is_refused_before_there_is_an_array_of_it():
    lengths = np.broadcast_to(np.ones(1, np.int64), 10**12)[:1000]
    for schedule in (Uniform(), Even(), Clustered(), Explicit(((0, 0),))):
        with pytest.raises(InputError, match="1000000000000000 (poisoned documents|exposures)"):
            placing(schedule, lengths, exposures=10**12)


def test_documents_exposures_and_steps_vary_apart():
    once = placing(Uniform(), np.full(100, 10))
    twice = placing(Uniform(), np.full(50, 10), exposures=2)
    assert (once.exposures, once.documents) == (100, 100)
    assert (twice.exposures, twice.documents) == (100, 50)
    dense = placing(Clustered(density=1.0, every=1), np.full(96, 10))
    thin = placing(Clustered(density=0.125, every=1), np.full(96, 10))
    assert (dense.steps(8), thin.steps(8)) == (12, 96)


def test_explicit_positions_are_taken_as_they_are(tmp_path):
    file = tmp_path / "positions.txt"
    file.write_text("7 3\n2,90\n9000 0\n")
    placed = placing(positions_from(str(file)), [10, 10])
    assert placed.sequence_N.tolist() == [7, 2] and placed.offset_N.tolist() == [3, 90]


@pytest.mark.parametrize(
    ("positions", "said"),
    [
        (((7, 3),), "it has 1 positions for 2 exposures"),
        (((7, 3), (7, 3)), "position 1, sequence 7 and offset 3: another poison has that sequence"),
        (((7, 3), (10_000, 3)), "training has sequences 0 to 9999"),
        (((7, 3), (8, 91)), "a poison of 10 tokens does not fit there into 100"),
    ],
)
def test_explicit_positions_that_cannot_be_are_refused(positions, said):
    with pytest.raises(InputError, match=said):
        placing(Explicit(positions), [10, 10])


def test_a_file_that_holds_no_positions_is_refused(tmp_path):
    file = tmp_path / "positions.txt"
    file.write_text("7 3\n8 x\n")
    with pytest.raises(InputError, match="line 2: '8 x' is not a sequence and an offset"):
        positions_from(str(file))
    with pytest.raises(InputError, match="no such file"):
        positions_from(str(tmp_path / "none"))


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="3 poisoned documents do not fit into the 2 sequences"):
        placing(Uniform(), [1, 1, 1], sequences=2, batch_size=1)
    with pytest.raises(InputError, match="11 poisoned documents do not fit into the 10 sequences"):
        placing(Uniform((0.0, 0.1)), np.ones(11, int), sequences=100)
    with pytest.raises(InputError, match="9 poisoned documents do not fit into the 8 sequences"):
        placing(Clustered(density=0.25, every=3), np.ones(9, int), sequences=80)
    with pytest.raises(
        InputError, match="poison 1 has 101 tokens, and a sequence data.seq_len=100"
    ):
        placing(Uniform(), [10, 101])
    with pytest.raises(
        InputError, match=r"schedule.density=0.75: that is 6 sequences of a batch of 8"
    ):
        placing(Clustered(density=0.75), [1], attack=0, attacks=2)
    with pytest.raises(InputError, match="train.batch_size=8: 3 attacks share the sequences"):
        placing(Clustered(), [1], attack=0, attacks=3)


@dataclasses.dataclass(frozen=True)
class Wrong(Schedule):
    """A schedule of a user's own that does not keep the contract."""

    own: tuple[int, ...] = ()
    first: int = 0

    def places(self, training, exposures):
        return np.array(self.own)

    def offsets(self, training, lengths_N):
        return np.full(lengths_N.size, self.first)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (Wrong((3,)), "Wrong gives 1 places and 2 offsets for 2 exposures"),
        (Wrong((3, 3)), "Wrong gives two exposures one sequence"),
        (Wrong((3, 10_000)), "Wrong gives a place outside 0 to 9999"),
        (Wrong((-1, 3)), "Wrong gives a place outside 0 to 9999"),
        (Wrong((2, 3), 91), "Wrong gives an offset at which a poison does not fit"),
    ],
)
def test_what_a_schedule_of_a_users_own_places_is_checked(schedule, said):
    with pytest.raises(InputError, match=said):
        placing(schedule, [10, 10])
