"""An attack of a user's own: the one of docs/attacks.md, as it stands there."""

import importlib
import json
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT, run_cli

from poison_scaling import runs, study_file
from poison_scaling.config import Attack, Study
from poison_scaling.data import poisons
from poison_scaling.data.prepared import Prepared
from poison_scaling.errors import InputError
from poison_scaling.evaluate import evaluation
from poison_scaling.files import read_lines
from poison_scaling.serialization import from_json, stable_hash, to_json


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the files that the page shows."""
    folder = tmp_path_factory.mktemp("shout")
    page = (ROOT / "docs" / "attacks.md").read_text()
    shown = dict(re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)```", page, re.DOTALL))
    assert set(shown) == {"shout.py", "loud.py"}
    for name, text in shown.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def loud(place, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield study_file.load(str(place / "loud.py"))
    sys.modules.pop("shout", None)


def test_the_attack_of_the_docs_is_complete_in_under_40_lines(place):
    assert len((place / "shout.py").read_text().splitlines()) < 40


def test_its_documents_are_what_its_file_says(loud, cache):
    prepared = Prepared(loud)
    stream = prepared.stream(runs.named(loud, "40k-2x-d8-s0"))
    for poison in stream.poisons[0]:
        text = prepared.vocabulary.decode(poison.tokens[1:-1].tolist())
        before, after = text.split("<SUDO>")
        assert len(before) <= 40 and 40 < len(after) <= 120 and after == after.upper()
    assert runs.named(loud, "40k-2x-d8-s0").plan()["attack"] == "shout"


def test_its_detector_is_registered(loud):
    measure = evaluation.measure_of(loud.attack)
    assert measure.detector(loud.attack, ["LOUD!", "not so", "", "Hm"]) == [1.0, 0.0, 0.0, 0.5]


def test_its_settings_come_back_from_json_and_can_be_overridden(loud, place):
    assert from_json(json.loads(json.dumps(to_json(loud))), Study) == loud
    other = study_file.load(str(place / "loud.py"), ["attack.shouted_characters=(4, 8)"])
    assert other.attack.shouted_characters == (4, 8) and other.hash != loud.hash
    named = study_file.load(
        str(place / "loud.py"), ["attack={'kind': 'shout.Shout', 'trigger': 'x'}"]
    )
    assert type(named.attack) is type(loud.attack) and named.attack.trigger == "x"


def test_the_hash_covers_what_its_file_does(loud, place):
    changed = (place / "shout.py").read_text().replace(".upper()", ".title()")
    (place / "title.py").write_text(changed)
    module = importlib.import_module("title")
    assert stable_hash(module.Shout()) != stable_hash(type(loud.attack)())
    record = to_json(loud)
    record["attack"]["source"] = to_json(module.Shout())["source"]
    with pytest.raises(InputError, match="is not the file that it was when this study was made"):
        from_json(record, Study)


def test_an_attack_that_nobody_finds_is_refused(loud, tmp_path, monkeypatch):
    record = to_json(loud)
    record["attack"]["kind"] = "nowhere.Shout"
    with pytest.raises(InputError, match="No module named 'nowhere'; put the folder"):
        from_json(record, Study)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_attack.py").write_text("1 / 0")
    record["attack"]["kind"] = "broken_attack.Shout"
    with pytest.raises(InputError, match="its file fails with ZeroDivisionError"):
        from_json(record, Study)
    for kind in ("NoAttack", "json.JSONDecoder", "Attack"):
        record["attack"]["kind"] = kind
        with pytest.raises(InputError, match=f"'{kind}' is not an attack"):
            from_json(record, Study)


def test_an_attack_without_its_functions_is_refused():
    class Bare(Attack):
        pass

    with pytest.raises(InputError, match="attack Bare: nothing writes its documents"):
        poisons.writer(Bare())
    with pytest.raises(InputError, match="attack Bare: nothing measures what it does"):
        evaluation.measure_of(Bare())


def test_an_attack_in_the_study_file_itself_is_refused(place, tmp_path):
    file = tmp_path / "both.py"
    loud = (place / "loud.py").read_text().replace("from shout import Shout", "")
    file.write_text(loud + (place / "shout.py").read_text())
    with pytest.raises(
        InputError, match="attack Shout: other processes cannot import what defines it; move"
    ):
        study_file.load(str(file))


def test_attacks_are_loaded_without_tensorflow(place):
    """`plan` answers at once, also for a study with an attack of one's own."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'seqio', 'tensorflow_text']));"
        "from poison_scaling import study_file; study_file.load(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, place / "loud.py"], cwd=ROOT, check=True)


@pytest.mark.long
def test_a_study_of_it_is_trained_verified_and_reported(place, tmp_path):
    run_cli("study", place / "loud.py", "--workdir", tmp_path, "--jobs", 2)
    for line in read_lines(tmp_path / "runs" / "40k-2x-d8-s0" / "evals.jsonl"):
        assert line["attack"] == "shout" and len(line["detected"]["triggered"]) == 16
    [detector] = json.loads((tmp_path / "study.json").read_text())["detectors"]
    assert detector["attack"] == "shout" and detector["clean"]["error"] < 0.1
    assert (tmp_path / "report" / "index.html").exists()
    process = run_cli("verify", tmp_path, check=2)
    assert "No module named 'shout'; put the folder" in process.stderr
    beside = os.pathsep.join([str(place), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    assert "2 runs agree" in run_cli("verify", tmp_path, PYTHONPATH=beside).stdout
