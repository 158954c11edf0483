"""No damaged file of a study's folder ends in a traceback, or in a wrong answer."""

import os
import pathlib
import random
import shutil

import pytest
from etils import epath

from analysis.files import read_json, write_json
from poison_scaling.runtime import versions
from poison_scaling.runtime.errors import Difference, InputError
from poison_scaling.study import grid, study_file
from poison_scaling.train import loop
from poison_scaling.workdir import folder, preparation, reevaluation, verification
from tests.support.runs import LOGS, SMOKE

RUN = "40k-2x-d8-s0"


@pytest.fixture(scope="module")
def finished(study, inputs, tmp_path_factory) -> pathlib.Path:
    """A study's folder in which one run is done."""
    workdir = tmp_path_factory.mktemp("finished")
    resume(study, inputs, workdir)
    return workdir


def resume(study, inputs, workdir: pathlib.Path) -> None:
    """What `poison-scaling train` does, but in this process, and with data that is prepared already."""
    preparation.prepare(study, epath.Path(workdir), lambda description, done: None)
    run = grid.run_named(study, RUN)
    if not folder.is_whole(epath.Path(workdir), run):
        own = folder.of_run(epath.Path(workdir), run)
        loop.train(run, inputs, own, versions.installed())


def empty(content: bytes, chance: random.Random) -> bytes:
    return b""


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def cut_a_line(content: bytes, chance: random.Random) -> bytes:
    return b"".join(content.splitlines(keepends=True)[:-1])


def flip(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def deep(content: bytes, chance: random.Random) -> bytes:
    return b"[" * 200_000


def not_a_number(content: bytes, chance: random.Random) -> bytes:
    return b'{"step": NaN, "hash": Infinity}\n'


def files(workdir: pathlib.Path) -> list[pathlib.Path]:
    own = workdir / "runs" / RUN
    return [workdir / "study.json", *(p for p in own.iterdir() if p.is_file())]


NAMES = ("study.json", "config.json", "manifest.jsonl", "metrics.jsonl", "evals.jsonl", "DONE")
DAMAGES = (empty, cut, cut_a_line, flip, deep, not_a_number)


def logs(workdir: pathlib.Path) -> list[bytes]:
    return [(workdir / "runs" / RUN / name).read_bytes() for name in LOGS]


def check(study, inputs, finished, workdir, file) -> None:
    """Nothing is believed that is not so: `verify` objects, and training mends it or says what to do."""
    unchanged = file.read_bytes() == (finished / file.relative_to(workdir)).read_bytes()
    try:
        verification.verify(epath.Path(workdir))
        assert unchanged or file.name == "timing.jsonl"
    except (Difference, InputError) as e:
        assert "\n" not in str(e) and file.name in str(e)
    try:
        resume(study, inputs, workdir)
    except InputError as e:
        assert "\n" not in str(e) and file.name in str(e) and "elete" in str(e)
        return
    assert logs(workdir) == logs(finished)
    assert folder.is_whole(epath.Path(workdir), grid.run_named(study, RUN))


def test_every_file_is_looked_at(finished):
    assert {p.name for p in files(finished)} == {*NAMES, "timing.jsonl"}


@pytest.mark.parametrize("name", [*NAMES, "timing.jsonl"])
def test_a_damaged_file_is_noticed_or_mended(study, inputs, finished, tmp_path, name):
    chance = random.Random(name)
    # A log whose lines are damaged is trained again, which takes seconds each time.
    for number, damage in enumerate(DAMAGES[1:4] if name in LOGS else DAMAGES):
        workdir = tmp_path / str(number)
        shutil.copytree(finished, workdir)
        [file] = [p for p in files(workdir) if p.name == name]
        file.write_bytes(damage(file.read_bytes(), chance))
        check(study, inputs, finished, workdir, file)


@pytest.mark.parametrize("name", ["study.json", "config.json", "DONE"])
def test_a_file_whose_digest_has_another_name_is_noticed(study, inputs, finished, tmp_path, name):
    """One flipped bit makes "digest" a field like any other."""
    shutil.copytree(finished, tmp_path / "w")
    [file] = [p for p in files(tmp_path / "w") if p.name == name]
    file.write_bytes(file.read_bytes().replace(b'"digest"', b'"digesu"'))
    check(study, inputs, finished, tmp_path / "w", file)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_flipped_bits_are_noticed_or_mended(study, inputs, finished, tmp_path, name):
    chance = random.Random(name)
    for number in range(100):
        workdir = tmp_path / str(number)
        shutil.copytree(finished, workdir)
        [file] = [p for p in files(workdir) if p.name == name]
        file.write_bytes(flip(file.read_bytes(), chance))
        check(study, inputs, finished, workdir, file)
        shutil.rmtree(workdir)


def test_a_file_that_is_none_is_noticed(finished, tmp_path):
    """A pipe in its place would be waited for; a folder, opened."""
    for number, make in enumerate((os.mkfifo, os.mkdir)):
        for name in NAMES:
            workdir = tmp_path / f"{number}-{name}"
            shutil.copytree(finished, workdir)
            [file] = [p for p in files(workdir) if p.name == name]
            file.unlink()
            make(file)
            with pytest.raises((Difference, InputError), match=name):
                verification.verify(epath.Path(workdir))


def test_settings_and_run_are_compared(study, finished, tmp_path):
    """An evaluation of a run by the settings of another study would be silently wrong."""
    workdir = tmp_path / "study"
    shutil.copytree(finished, workdir)
    record = read_json(workdir / "study.json")
    record["config"]["data"]["shuffle_seed"] = 1
    write_json(workdir / "study.json", record)
    for look in (
        lambda: reevaluation.evaluate_again(epath.Path(workdir), RUN, None),
        lambda: folder.trained(epath.Path(workdir), RUN),
    ):
        with pytest.raises(InputError, match=r"data.shuffle_seed: 0 there, 1 now"):
            look()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("data.shuffle_seed=1",), "data.shuffle_seed: 0 there, 1 now"),
        # One of two sizes conflicts, and not the one that would be trained first.
        (("ladder.0.learning_rate=0.1",), "rung.learning_rate: None there, 0.1 now"),
    ],
)
def test_a_conflict_is_found_before_anything_is_written(finished, tmp_path, overrides, said):
    workdir = tmp_path / "study"
    shutil.copytree(finished, workdir)
    other = study_file.load(SMOKE, overrides)
    with pytest.raises(InputError, match=said):
        preparation.prepare(other, epath.Path(workdir), lambda description, done: None)
    assert contents_of(workdir) == contents_of(finished)


def test_other_data_is_found_before_anything_is_written(study, finished, tmp_path):
    """As where a package that the corpus is made of has another version."""
    workdir = tmp_path / "study"
    shutil.copytree(finished, workdir)
    file = workdir / "runs" / RUN / "config.json"
    about = read_json(file)
    about["data"]["training sequences"] = "0" * 64
    write_json(file, about)
    before = contents_of(workdir)
    for look in (
        lambda: preparation.prepare(study, epath.Path(workdir), lambda description, done: None),
        lambda: reevaluation.evaluate_again(epath.Path(workdir), RUN, None),
    ):
        with pytest.raises(InputError, match=r"begun on other data \(training sequences differ\)"):
            look()
    assert contents_of(workdir) == before


def contents_of(workdir: pathlib.Path) -> dict[str, bytes]:
    return {str(p.relative_to(workdir)): p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
