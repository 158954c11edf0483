"""Studies as files: loading, overrides, JSON, hashes."""

import dataclasses
import json

import pytest
from conftest import ROOT
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from poison_scaling import config, folder, study_file
from poison_scaling.config import Seeds, Study
from poison_scaling.errors import InputError
from poison_scaling.serialization import from_json, stable_hash, to_json

SMOKE = str(ROOT / "configs" / "smoke.py")


def load(*overrides: str) -> Study:
    return study_file.load(SMOKE, overrides)


def test_overrides_are_typed_and_reach_every_level():
    study = load(
        "train.learning_rate=1e-3",
        "train.batch_rows=16",
        "ladder.1.tokens_per_parameter=3",
        "doses=[0, 4]",
        "doses.1=5",
        "seeds=[3, 4]",
        "attack.trigger=|go|",
        "attack.prefix_characters=(1, 2)",
        "attack.gibberish=UniformCharacters",
        "data.corpus={'kind': 'Files', 'patterns': ['*.txt']}",
        "model.segment_mask=true",
        "machine.mesh=none",
    )
    assert study.train.learning_rate == 1e-3 and study.train.batch_rows == 16
    assert study.ladder[1].tokens_per_parameter == 3.0
    assert type(study.ladder[1].tokens_per_parameter) is float
    assert study.doses == (0, 5)
    assert study.seeds == (Seeds(3, 3, 3), Seeds(4, 4, 4))
    assert study.attack.trigger == "|go|" and study.attack.prefix_characters == (1, 2)
    assert study.attack.gibberish == config.UniformCharacters()
    assert study.data.corpus == config.Files(patterns=("*.txt",))
    assert study.model.segment_mask is True and study.machine.mesh is None


def test_an_attack_can_be_chosen_and_set():
    study = load("attack=LanguageSwitch", "attack.corpus.patterns=['de/*']", "attack.trigger=|x|")
    corpus = config.Files(patterns=("de/*",))
    assert study.attack == config.LanguageSwitch(trigger="|x|", corpus=corpus)
    joined = load(
        "data.corpus={'kind': 'Joined', 'corpora': [{'patterns': ['a']}, 'InstalledDocs']}"
    )
    parts = (config.Files(patterns=("a",)), config.InstalledDocs())
    assert joined.data.corpus == config.Joined(corpora=parts)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.lerning_rate=1", "the nearest is 'learning_rate'"),
        ("trian.learning_rate=1", "the nearest is 'train'"),
        ("attack.gibberish.alphabet=ab", "not a field of VocabularyTokens; it has none"),
        ("train.batch_rows=8.5", "8.5 is not int"),
        ("train.batch_rows=eight", "'eight' is not int"),
        ("model.dtype=float8", "none of 'float32', 'bfloat16'"),
        ("attack.prefix_characters=(1, 2, 3)", "must have 2 parts"),
        ("ladder.9.size=90k", "there are 2"),
        ("ladder=[{'size': '90k', 'learning_rate': 'x'}]", "ladder.0.learning_rate: 'x' is not"),
        ("machine.slices=[{'size': '7b'}]", "Slice needs 'topology'"),
        ("evaluation.judge=me", "'me' is not 'control' or none"),
        ("train.learning_rate", "write it as name=value"),
        ("train.learning_rate.x=1", "nothing named 'x'"),
        ("data.corpus={'kind': 'Files', 'pattern': 'x'}", "is not a field of Files; the nearest"),
        ("attack=NoAttack", "there are DenialOfService, LanguageSwitch, and your own"),
    ],
)
def test_an_override_that_does_not_fit_is_refused_in_one_sentence(override, said):
    with pytest.raises(InputError) as error:
        load(override)
    assert said in str(error.value)
    assert override in str(error.value)
    assert "\n" not in str(error.value)


def test_none_is_nothing_or_the_name_none():
    study = load("model.remat=full", "evaluation.judge=control")
    assert (study.model.remat, study.evaluation.judge) == ("full", "control")
    study = load("model.remat=full", "model.remat=none", "evaluation.judge=none")
    assert (study.model.remat, study.evaluation.judge) == ("none", None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("def study(): return 3", "must return a Study"),
        ("x = 1", "must define a function study()"),
        ("def study(): return 1 / 0", "ZeroDivisionError"),
        ("def study(): return {}['x']", "KeyError: 'x'"),
        ("def study(:", "SyntaxError"),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path, content, said):
    file = tmp_path / "study.py"
    file.write_text(content)
    with pytest.raises(InputError, match=said.replace("(", r"\(").replace(")", r"\)")):
        study_file.load(str(file))


def test_a_missing_file_is_refused():
    with pytest.raises(InputError, match="no such file"):
        study_file.load("configs/none.py")


def test_a_study_of_another_version_is_refused_by_its_file(tmp_path):
    record = to_json(load())
    record["train"]["momentum"] = 0.9
    (tmp_path / "study.json").write_text(json.dumps({"config": record}))
    with pytest.raises(InputError, match=r"study.json: it is not .* train: 'momentum' is not a"):
        folder.read(epath.Path(tmp_path))


def test_the_hash_covers_all_but_the_machine():
    study = load()
    assert load("machine.jobs=3", "machine.mesh=(2, 2, 2)").hash == study.hash
    assert load("train.weight_decay=0.2").hash != study.hash
    assert load("data.corpus.packages=['optax']").hash != study.hash


@pytest.mark.parametrize("name", ["smoke", "demo", "paper", "novels"])
def test_a_study_comes_back_from_its_json_with_its_hash(name):
    study = study_file.load(str(ROOT / "configs" / f"{name}.py"))
    assert from_json(json.loads(json.dumps(to_json(study))), Study).hash == study.hash


def test_a_field_of_the_wrong_type_is_refused(tmp_path):
    file = tmp_path / "study.py"
    file.write_text(
        "from poison_scaling.config import *\n"
        "def study(): return Study(name='s', ladder=(), doses=('ten',))\n"
    )
    with pytest.raises(InputError, match="study.py': doses.0: 'ten' is not int"):
        study_file.load(str(file))


def test_a_study_may_have_lists_where_tuples_are_meant(tmp_path):
    file = tmp_path / "study.py"
    file.write_text(
        "from poison_scaling.config import *\n"
        "def study(): return Study(name='s', ladder=[Rung()], doses=[0, 1], seeds=[2])\n"
    )
    expected = Study(name="s", ladder=(config.Rung(),), doses=(0, 1), seeds=config.seeds(2))
    assert study_file.load(str(file)) == expected


def test_the_hash_is_stable_across_machines_and_sessions():
    assert stable_hash(config.Seeds(1, 2, 3)) == "8b1b16ef4d6d3261"


def test_two_choices_with_equal_fields_hash_apart():
    assert stable_hash(config.Bytes()) != stable_hash(config.VocabularyTokens())


@given(rate=st.floats(1e-6, 1.0), rows=st.integers(1, 10_000), label=st.text(min_size=1))
def test_a_study_comes_back_from_its_json(rate, rows, label):
    study = load()
    study = dataclasses.replace(
        study,
        name=label,
        train=dataclasses.replace(study.train, learning_rate=rate, batch_rows=rows),
    )
    assert from_json(to_json(study), Study) == study
