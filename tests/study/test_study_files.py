"""Studies as files: loading, overrides, JSON, hashes."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import typing

import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

import poison_scaling as ps
from analysis.files import write_json
from poison_scaling import Seeds, Study
from poison_scaling.config import extensions
from poison_scaling.config.serialization import from_json, stable_hash, to_json
from poison_scaling.runtime.errors import InputError
from poison_scaling.study import study_file
from poison_scaling.workdir import folder
from tests.support.runs import ROOT, run_cli

SMOKE = str(ROOT / "configs" / "smoke.py")
IMPORTS = "from poison_scaling import Data, Rung, Study\n"


def load(*overrides: str) -> Study:
    return study_file.load(SMOKE, overrides)


def test_overrides_are_typed_and_reach_every_level():
    study = load(
        "train.learning_rate=1e-3",
        "train.batch_size=16",
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
    assert study.train.learning_rate == 1e-3 and study.train.batch_size == 16
    assert study.ladder[1].tokens_per_parameter == 3.0
    assert type(study.ladder[1].tokens_per_parameter) is float
    assert study.doses == (0, 5)
    assert study.seeds == (Seeds(3, 3, 3), Seeds(4, 4, 4))
    assert study.attack.trigger == "|go|" and study.attack.prefix_characters == (1, 2)
    assert study.attack.gibberish == ps.UniformCharacters()
    assert study.data.corpus == ps.Files(patterns=("*.txt",))
    assert study.model.segment_mask is True and study.machine.mesh is None


def test_an_attack_can_be_chosen_and_set():
    study = load("attack=LanguageSwitch", "attack.corpus.patterns=['de/*']", "attack.trigger=|x|")
    corpus = ps.Files(patterns=("de/*",))
    assert study.attack == ps.LanguageSwitch(trigger="|x|", corpus=corpus)
    joined = load(
        "data.corpus={'kind': 'Joined', 'corpora': [{'kind': 'Files', 'patterns': ['a']}, 'InstalledDocs']}"
    )
    parts = (ps.Files(patterns=("a",)), ps.InstalledDocs())
    assert joined.data.corpus == ps.Joined(corpora=parts)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.lerning_rate=1", "the nearest is 'learning_rate'"),
        ("trian.learning_rate=1", "the nearest is 'train'"),
        ("attack.gibberish.alphabet=ab", "not a field of VocabularyTokens; the nearest is"),
        ("train.batch_size=8.5", "8.5 is not a whole number from 1 to"),
        ("train.batch_size=eight", "'eight' is not a whole number"),
        ("model.dtype=float8", "none of 'float32', 'bfloat16'"),
        ("attack.prefix_characters=(1, 2, 3)", "must have 2 parts"),
        ("ladder.9.size=90k", "there are 2"),
        ("ladder=[{'size': '90k', 'learning_rate': 'x'}]", "ladder.0.learning_rate: 'x' is not"),
        ("machine.slices=[{'size': '7b'}]", "Slice needs 'topology'"),
        ("evaluation.judge=me", "'me' is not 'control' or none"),
        ("train.learning_rate", "write it as name=value"),
        ("train.learning_rate.x=1", "nothing named 'x'"),
        ("data.corpus={'kind': 'Files', 'pattern': 'x'}", "is not a field of Files; the nearest"),
        (
            "attack=NoAttack",
            "there are Ambient, Canary, Compliance, Contamination, Counterexamples, DenialOfService,",
        ),
    ],
)
def test_an_override_that_does_not_fit_is_refused_in_one_sentence(override, said):
    with pytest.raises(InputError) as error:
        load(override)
    assert said in str(error.value)
    assert override in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "train.learning_rate=-1",
            "train.learning_rate: -1 is not a number above 0 and of at most 10",
        ),
        ("train.beta2=1000", "train.beta2: 1000 is not a number of at least 0 and below 1"),
        ("train.warmup=1000", "train.warmup: 1000 is not a number of at least 0 and below 1"),
        ("train.weight_decay=-1", "train.weight_decay: -1 is not a number from 0 to 1,000"),
        (
            "train.final_learning_rate=-1",
            "train.final_learning_rate: -1 is not a number from 0 to 1",
        ),
        ("train.clip_norm=1e400", "train.clip_norm: inf is not a number above 0"),
        ("train.z_loss=nan", "train.z_loss: 'nan' is not a number"),
        ("evaluation.threshold=1e999", "evaluation.threshold: inf is not a number"),
        (
            "data.vocabulary.vocab_size=-1",
            "data.vocabulary.vocab_size: -1 is not a whole number from 1 to",
        ),
        ("data.seq_len=0", "data.seq_len: 0 is not a whole number from 1 to 16,777,216"),
        ("doses=[0, -1]", "doses.1: -1 is not a whole number from 0 to 1,000,000"),
        ("doses=[1000000000000]", "doses.0: 1000000000000 is not a whole number"),
        ("ladder.0.tokens_per_parameter=1e15", "at most 1,000,000"),
        ("seeds=[-1]", "seeds.0.weights: -1 is not a whole number from 0 to 4,294,967,295"),
        ("seeds=[4294967296]", "seeds.0.weights: 4294967296 is not a whole number"),
        ("seeds.0.poisons=18446744073709551616", "is not a whole number from 0 to 4,294,967,295"),
        (
            "attack.prefix_characters=(-1, 5)",
            "attack.prefix_characters.0: -1 is not a whole number",
        ),
        ("schedule.window=(0.5, 1.5)", "schedule.window.1: 1.5 is not a number from 0 to 1"),
        (
            "schedule={'kind': 'Clustered', 'density': 0}",
            "schedule.density: 0 is not a number above 0",
        ),
        ("also=[{'dose': -1}]", "also.0.dose: -1 is not a whole number from 0"),
        ("machine.mesh=(0, 1, 1)", "machine.mesh.0: 0 is not -1 or a whole number from 1"),
        ("machine.jobs=0", "machine.jobs: 0 is not a whole number from 1 to 1,024 or none"),
        ("machine.mfu=0", "machine.mfu: 0 is not a number above 0 and of at most 1"),
        ("attack.trigger='\\ud800'", "attack.trigger: '\\ud800' cannot be encoded as UTF-8"),
        ("data.corpus={'kind': 'Files', 'patterns': ['\\0']}", "is not text without '\\x00'"),
    ],
)
def test_what_is_out_of_range_is_refused_with_what_would_be_right(override, said):
    with pytest.raises(InputError) as error:
        load(override)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


# Handed to extensions by the package, and never read from a study.
NOT_SETTINGS = (
    *(ps.Detection, ps.Dimensions, ps.Document, ps.Items, ps.Refusals, ps.Sources, ps.Subject),
    ps.Training,
)


def test_every_number_has_its_range_beside_it():
    def plain(hint):
        if typing.get_origin(hint) is typing.Annotated:
            return False
        return hint in (int, float) or any(map(plain, typing.get_args(hint)))

    own = [k for k in map(ps.__getattr__, ps.__all__) if dataclasses.is_dataclass(k)]
    own = [k for k in own if isinstance(k, type) and k not in NOT_SETTINGS]
    assert len(own) > 20
    for kind in own:
        for name, hint in typing.get_type_hints(kind, include_extras=True).items():
            assert not plain(hint), f"{kind.__name__}.{name}"


def test_what_is_given_for_a_text_is_taken_as_it_is_written():
    for text in ("0x10", "1e3", "[1,2]", "true", "(5)"):
        assert load(f"attack.trigger={text}").attack.trigger == text
    assert load("attack.trigger='0x10'").attack.trigger == "0x10"
    assert (
        load("data.corpus={'kind': 'Tfds'}", "data.corpus.data_dir=5").data.corpus.data_dir == "5"
    )


def test_an_override_that_is_nested_too_deeply_is_refused():
    for value in ("[" * 9000, "-" * 100_000 + "1", "1+" * 50_000 + "1"):
        with pytest.raises(
            InputError, match="train.batch_size: '.* is not a whole number"
        ) as error:
            load(f"train.batch_size={value}")
        assert len(str(error.value)) < 1000
    with pytest.raises(InputError, match="'x' is not a field of Train"):
        load("train.x" + ".x" * 10_000 + "=1")


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
        (b"\xff\xfe", "SyntaxError"),
        ("study = 3", "must define a function study()"),
        ("def study(): return study()", "RecursionError"),
        ("import sys; sys.exit(0)", "it calls sys.exit(0)"),
        ("raise GeneratorExit", "GeneratorExit"),
        (f"{IMPORTS}x = []; x.append(x)\ndef study(): return Study('s', x, x)", "RecursionError"),
        (
            f"{IMPORTS}def study(): return Study('s', (Rung(),), (10**5000,))",
            "doses.0: a number of",
        ),
        (f"{IMPORTS}def study(): return Study('s', (Rung(),), (1,), data=Data)", "data: <class"),
        (f"{IMPORTS}def study(): return Study(object(), (Rung(),), (1,))", "name: <object"),
        (f"{IMPORTS}def study(): return object.__new__(Study)", "AttributeError"),
        (
            f"{IMPORTS}import numpy\ndef study(): return Study('s', numpy.ones((3, 3)), (1,))",
            "ladder.0: array(",
        ),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path, content, said):
    file = tmp_path / "study.py"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        study_file.load(str(file))
    assert said in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith(f"config '{file}': ")


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        study_file.load("configs/none.py")
    with pytest.raises(InputError, match="it is a folder; give the study's Python file"):
        study_file.load(str(tmp_path))
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(InputError, match="it is no regular file"):
        study_file.load(str(tmp_path / "pipe.py"))
    with pytest.raises(InputError, match="too long"):
        study_file.load("x" * 5000)


def test_what_a_study_file_prints_is_no_part_of_the_answer(tmp_path):
    file = tmp_path / "study.py"
    noise = "import os\nprint('printed')\nos.system('echo by a child')\n"
    file.write_text(noise + pathlib.Path(SMOKE).read_text())
    process = run_cli("plan", file, "--json")
    assert json.loads(process.stdout)["name"] == "smoke"
    assert process.stderr == "printed\nby a child\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_told_from_an_interrupt_that_the_study_file_raises(tmp_path, number):
    file = tmp_path / "study.py"
    file.write_text("raise KeyboardInterrupt")
    process = run_cli("plan", file, check=2)
    assert "it raises KeyboardInterrupt" in process.stderr
    file.write_text("import time\nprint('ready', flush=True)\ntime.sleep(600)")
    process = subprocess.Popen(
        [sys.executable, "-m", "poison_scaling.cli", "plan", str(file)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # As a shell starts it in the foreground: a test run in the background ignores SIGINT from birth.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr.readline() == "ready\n"
    process.send_signal(number)
    assert "The same command resumes from here" in process.communicate()[1]
    assert process.returncode == 75


def test_a_study_of_another_version_is_refused_by_its_file(tmp_path):
    record = to_json(load())
    record["train"]["momentum"] = 0.9
    write_json(tmp_path / "study.json", {"config": record})
    with pytest.raises(InputError, match=r"study.json: it is not .* train: 'momentum' is not a"):
        folder.read(epath.Path(tmp_path))


def test_the_hash_covers_all_but_the_machine():
    study = load()
    assert load("machine.jobs=3", "machine.mesh=(2, 2, 2)").hash == study.hash
    assert load("train.weight_decay=0.2").hash != study.hash
    assert load("data.corpus.packages=['optax']").hash != study.hash


@pytest.mark.parametrize(
    "name", ["smoke", "demo", "paper", "novels", "finetune", "order", "persistence", "removal"]
)
def test_a_study_comes_back_from_its_json_with_its_hash(name):
    study = study_file.load(str(ROOT / "configs" / f"{name}.py"))
    assert from_json(json.loads(json.dumps(to_json(study))), Study).hash == study.hash


def test_a_field_of_the_wrong_type_is_refused(tmp_path):
    file = tmp_path / "study.py"
    file.write_text(
        "from poison_scaling import Rung, Study\n"
        "def study(): return Study(name='s', ladder=(), doses=('ten',))\n"
    )
    with pytest.raises(InputError, match="study.py': doses.0: 'ten' is not a whole number"):
        study_file.load(str(file))


def test_a_study_may_have_lists_where_tuples_are_meant(tmp_path):
    file = tmp_path / "study.py"
    file.write_text(
        "from poison_scaling import Rung, Study\n"
        "def study(): return Study(name='s', ladder=[Rung()], doses=[0, 1], seeds=[2])\n"
    )
    expected = Study(name="s", ladder=(ps.Rung(),), doses=(0, 1), seeds=ps.seeds(2))
    assert study_file.load(str(file)) == expected


def test_the_hash_is_stable_across_machines_and_sessions():
    assert stable_hash(ps.Seeds(1, 2, 3)) == "8b1b16ef4d6d3261"
    assert load().hash == "9ad9234bab1f56bc"
    assert {name: stable_hash(cls()) for name, cls in built_in().items()} == {
        "Ambient": "ac5ed4b0bb80eba4",
        "Canary": "945a8ac45bed9b91",
        "Compliance": "d613e072da3c773a",
        "Contamination": "7f436b742e9691fc",
        "Counterexamples": "fc1d1507cbb5edd7",
        "DenialOfService": "31185323665e4135",
        "Fact": "21232299235dac59",
        "LanguageSwitch": "4e58fe3374e6acca",
        "Clustered": "be39b0728300b6d2",
        "Even": "d541c4eba0515673",
        "Explicit": "9196c0235aef9bd9",
        "Uniform": "99e293907c120ea1",
        "Files": "fab540577d9e0b68",
        "InstalledDocs": "5262423e42c43a36",
        "Joined": "a1d6f513c37a8a9a",
        "Tfds": "12c3d9015ed0fa3f",
        "Decoder": "c14663eb9f3de0fb",
        "GPTNeoX": "74853382b09dbfbb",
        "Llama": "e48a427d070189b3",
        "OLMo2": "e0ad2a75bf9f88f7",
        "ConversationFiles": "a87e411f2c705c1c",
        "InstalledPairs": "fa1d8d87388f72c1",
        "TfdsConversations": "b024373b1a017a52",
        "ChatML": "e0da559c9914328e",
        "Plain": "ff8c914d1134ae93",
    }


def built_in() -> dict[str, type]:
    """Every built-in class of an extension point that needs no fields."""
    bases = (
        *(ps.Insertion, ps.Schedule, ps.Corpus, ps.Architecture),
        *(ps.Conversations, ps.Template),
    )
    return {name: cls for base in bases for name, cls in extensions.built_in(base).items()}


def test_two_choices_with_equal_fields_hash_apart():
    assert stable_hash(ps.Bytes()) != stable_hash(ps.VocabularyTokens())


@given(rate=st.floats(1e-6, 1.0), rows=st.integers(1, 10_000), label=st.text(min_size=1))
def test_a_study_comes_back_from_its_json(rate, rows, label):
    study = load()
    study = dataclasses.replace(
        study,
        name=label,
        train=dataclasses.replace(study.train, learning_rate=rate, batch_size=rows),
    )
    assert from_json(to_json(study), Study) == study
