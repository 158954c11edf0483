"""Whatever a setting is set to, there is a plan or a sentence: never a traceback, and never a long wait."""

import random
import typing

import pytest

from poison_scaling.config.serialization import to_json
from poison_scaling.runtime.errors import InputError
from poison_scaling.study import grid, study_file
from tests.support.runs import SMOKE

# Beside configs/smoke.py: studies with what that one has not.
OTHERS = (
    "attack={'kind': 'LanguageSwitch', 'corpus': {'kind': 'Tfds', 'data_dir': '/x'}}",
    "attack.gibberish={'kind': 'UniformCharacters', 'alphabet': 'xyz'}",
    "data.corpus={'kind': 'Joined', 'corpora': ['InstalledDocs', 'Files'], 'shares': (1, 2)}",
    "data.vocabulary={'kind': 'TokenizerJson', 'path': 'x', 'vocab_size': 500}",
    "schedule={'kind': 'Clustered', 'every': 2}",
    f"schedule={{'kind': 'Explicit', 'positions': {[(row, 0) for row in range(40)]}}}",
    "also=[{'dose': 3, 'attack': {'trigger': '|x|'}, 'schedule': 'Even'}]",
    "machine={'mesh': (1, -1, 2), 'jobs': 2, 'slices': [{'size': '40k', 'topology': 'v5p:2x2x1'}]}",
    "evaluation.near_triggers.texts=['a', 'b']",
    "model.loss_chunk=32",
    "data.filters=['gopher', {'kind': 'C4', 'fewest_words': 4}, 'dolma3']",
    "seeds=[{'weights': 1, 'order': 2, 'poisons': 3}]",
)
NUMBERS = (
    *("0", "-1", "1", "2", "-0.0", "0.5", "-1.5", "1e-300", "1e300", "1e400", "-1e400"),
    *("inf", "-inf", "nan", "float('nan')", "True", "False", "1j"),
    *(str(sign * 2**power + 1) for sign in (1, -1) for power in (31, 32, 53, 63, 64)),
    *("10" + "0" * 29, "-1" + "0" * 29, "9" * 5000, "0x" + "f" * 5000, "10" + "0" * 400),
    *("100", "1000", "10**30", "1_000_000", "10000000", "1000000000000"),
)
TEXTS = (
    *(
        "",
        " ",
        "''",
        "x",
        "none",
        "None",
        "null",
        "...",
        "é",
        "日本",
        "\u202e",
        "\0",
        "'\\0'",
        "\n",
    ),
    *("\udc80", "'\\ud800'", "b'x'", "'" + "x" * 100_000 + "'", "x" * 100_000, "</s>", "[/x]"),
    *("{1: 2}", "{}", "[]", "()", "[[]]", "{'kind': 1}", "{'kind': []}", "{'kind': 'Rung'}"),
    *("{'kind': 'os.X'}", "antigravity.X", "..X", "{None: 1}", "{'kind': 'x.Y', 'source': 3}"),
    *("[" * 90 + "]" * 90, "[" * 9000, "(" * 300, "-" * 100_000 + "1", "1+" * 50_000 + "1"),
    *("{'a': " * 80 + "1" + "}" * 80, "[1, 'a', None, {}]", "(-1, 0)", "(0, 1, 2)", "(5, 1)"),
    *("(0, 1" + "0" * 30 + ")", "[0] * 3", "[nan, 1]", "[1e400, -1e400]", "{1, 2}", "40k", "Even"),
)
PLANS_OF_A_STUDY = 12


def names(record, before: str = "") -> typing.Iterator[str]:
    """The dotted names of all that JSON holds."""
    parts = record.items() if isinstance(record, dict) else enumerate(record)
    for name, part in parts:
        yield f"{before}{name}"
        if isinstance(part, dict | list):
            yield from names(part, f"{before}{name}.")


def hostile(dice: random.Random, known: list[str]) -> str:
    """An override by a name that is mostly a field's, of a value that is mostly wrong."""
    name = dice.choice(known)
    if dice.random() < 0.1:
        place = dice.randrange(len(name) + 1)
        unknown = (".", "..", "x", "0", "-1", "é", "\0", "\udc80", "9" * 5000, ".a" * 5000)
        name = name[:place] + dice.choice(unknown) + name[place:]
    value = dice.choice(NUMBERS if dice.random() < 0.5 else TEXTS)
    if dice.random() < 0.2:
        value = dice.choice(("[{}]", "[{}, {}]", "({}, 1)", "{{'kind': {}}}")).replace("{}", value)
    return f"{name}={value}"


@pytest.mark.parametrize(
    "tries", [pytest.param(400, id="few"), pytest.param(10_000, marks=pytest.mark.long, id="many")]
)
def test_a_hostile_setting_is_planned_or_refused_in_a_sentence(tries):
    dice = random.Random(0)
    bases = [study_file.load(SMOKE), *(study_file.load(SMOKE, [other]) for other in OTHERS)]
    known = [sorted(set(names(to_json(base)))) for base in bases]
    refused = 0
    for number in range(tries):
        which = dice.randrange(len(bases))
        overrides = [hostile(dice, known[which]) for _ in range(dice.choice((1, 1, 2)))]
        try:
            study = study_file.override(bases[which], overrides)
            for run in grid.runs(study)[:PLANS_OF_A_STUDY]:
                run.plan()
        except InputError as e:
            refused += 1
            assert "\n" not in str(e) and len(str(e)) < 2000, overrides
        except BaseException as e:
            pytest.fail(f"try {number}, {[o[:200] for o in overrides]}: {type(e).__name__}: {e}")
    assert tries / 2 < refused < tries
