"""Imports: what is refused, what hashes depend on, and contracts 5 and 9 for chains that start from one."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from etils import epath

import poison_scaling as ps
from poison_scaling import cli
from poison_scaling.formats.safetensors import Safetensors
from poison_scaling.interchange.exporting import export
from poison_scaling.interchange.importing import import_model
from poison_scaling.runtime import versions
from poison_scaling.runtime.errors import Difference, InputError, Interrupted
from poison_scaling.study import grid
from poison_scaling.train import loop
from poison_scaling.workdir import folder, preparation, verification
from tests.support import published
from tests.support.runs import LOGS, run_cli

pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    place = tmp_path_factory.mktemp("published") / "tiny"
    published.write(place)
    return place


@pytest.fixture(scope="module")
def base(source, tmp_path_factory):
    """The folder of the import; no test changes it."""
    out = tmp_path_factory.mktemp("imports") / "base"
    import_model(source, out)
    return out


def test_the_command_says_what_it_imported_and_export_gives_the_same_files_back(source, tmp_path):
    out, back = tmp_path / "base", tmp_path / "back"
    said = run_cli("import", source, "--out", out).stdout
    assert "custom" in said and "apache-2.0" in said and "imported(" in said
    [run] = grid.runs(folder.read(epath.Path(out)))
    run_cli("export", out, "--run", run.name, "--out", back)
    one, other = Safetensors.of_folder(source), Safetensors.of_folder(back)
    assert set(one.entries) == set(other.entries)
    assert all(one.read(n).tobytes() == other.read(n).tobytes() for n in one.entries)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (source / name).read_bytes() == (back / name).read_bytes()
    assert json.loads((back / "config.json").read_text()) == published.CONFIG


def test_the_hash_is_that_of_the_weights_and_of_no_place(source, base, tmp_path):
    published.write(tmp_path / "shards", shard_bytes=8_000)
    moved = tmp_path / "elsewhere"
    import_model(tmp_path / "shards", tmp_path / "other")
    (tmp_path / "other").rename(moved)
    assert study(base).hash == study(moved).hash
    assert [run.hash for run in grid.runs(study(base))] == [
        run.hash for run in grid.runs(study(moved))
    ]
    published.write(tmp_path / "wider", intermediate_size=56)
    import_model(tmp_path / "wider", tmp_path / "third")
    assert grid.runs(study(tmp_path / "third"))[0].hash != grid.runs(study(base))[0].hash


def test_an_interrupted_import_leaves_nothing_and_starts_again(source, tmp_path):
    class Stop(Exception): ...

    def stop(done, total):
        if done > total / 2:
            raise Stop

    with pytest.raises(Stop):
        import_model(source, tmp_path / "base", progress=stop)
    assert not (tmp_path / "base").exists()
    import_model(source, tmp_path / "base")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def fewer_tokens(place):
    published.write(place, vocab_size=100)


def another_type(place):
    change(place, model_type="gpt2")


def missing_tensor(place):
    change(place, num_hidden_layers=3)


def left_over(place):
    change(place, num_hidden_layers=1)


def another_shape(place):
    change(place, vocab_size=300)


def change(place, **fields):
    (place / "config.json").write_text(json.dumps({**published.CONFIG, **fields}))


def another_tokenizer(place):
    (place / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    "harm, said",
    [
        (fewer_tokens, "vocab_size=100.*has 259 ids, more than the model"),
        (another_type, "models of type 'gpt2' are not supported"),
        (missing_tensor, "tensor 'model.layers.2.*is missing"),
        (left_over, "has no tensor 'model.layers.1"),
        (another_shape, "'model.embed_tokens.weight' has shape"),
        (another_tokenizer, "not a tokenizer.json"),
        (lambda place: (place / "tokenizer.json").unlink(), "it has no tokenizer"),
        (lambda place: (place / "tokenizer_config.json").unlink(), "give it as --end TOKEN"),
    ],
)
def test_a_model_that_cannot_be_imported_is_one_sentence(tmp_path, harm, said):
    place = tmp_path / "model"
    published.write(place)
    harm(place)
    with pytest.raises(InputError, match=said) as error:
        import_model(place, tmp_path / "base")
    assert "\n" not in str(error.value) and str(place) in str(error.value)
    assert not list(tmp_path.glob("*base*"))


def test_a_folder_that_exists_and_an_unknown_end_are_refused(source, tmp_path):
    with pytest.raises(InputError, match="--out .*it exists"):
        import_model(source, source)
    with pytest.raises(InputError, match="--end '<nothing>'"):
        import_model(source, tmp_path / "base", end="<nothing>")


# ------------------------------------------------------------------------------ studies that start from it


def study(base, **fields) -> ps.Study:
    model = ps.imported(base)
    stage = ps.Continue(
        optimizer="rewarm",
        label="more",
        tokens_per_parameter=model.budget(8 * 8 * 64),
        doses=(0, 6),
    )
    return ps.Study(
        **{
            "name": "continued",
            "start": model.start,
            "ladder": model.ladder,
            "doses": (0,),
            "data": ps.Data(
                corpus=ps.InstalledDocs(packages=("rich",)),
                vocabulary=model.vocabulary,
                seq_len=64,
                heldout_documents=60,
            ),
            "attack": ps.DenialOfService(prefix_characters=(0, 10), gibberish_tokens=(8, 16)),
            "model": ps.Model(architecture=model.architecture),
            "train": ps.Train(batch_size=8, learning_rate=1e-3, log_every=2),
            "evaluation": ps.Evaluation(
                times=2, prompts=4, prompt_tokens=12, generate_tokens=8, heldout_sequences=4
            ),
            "stages": ((stage,),),
            **fields,
        }
    )


def trained(of: ps.Study, workdir, name: str, **options):
    inputs = preparation.prepare(of, workdir, lambda description, done: None)
    run = inputs.run_named(name)
    loop.train(run, inputs, folder.of_run(workdir, run), versions.installed(), **options)


NAME = "custom-d0-s0+more-d6"


@pytest.fixture(scope="module")
def continued(base, tmp_path_factory):
    """The folder of a study from the import, with one run; no test changes it."""
    workdir = epath.Path(tmp_path_factory.mktemp("continued"))
    trained(study(base), workdir, NAME)
    return workdir


def test_a_run_starts_with_the_imported_weights(base, continued, source):
    first = json.loads((continued / "runs" / NAME / "metrics.jsonl").read_text().splitlines()[0])
    assert first["step"] == 2 and np.isfinite(first["loss"])
    about = json.loads((continued / "runs" / NAME / "config.json").read_text())["parent"]
    assert about["run"] == "custom-d0-s0" and about["step"] == 0
    assert about["state"] == ps.imported(base).about.digest
    assert verification.verify(continued) == 2  # the run, and the import that it starts from


def test_it_resumes_to_the_same_bytes(base, continued, tmp_path):
    workdir = epath.Path(tmp_path)
    machine = ps.Machine(checkpoint_steps=1)
    calls = iter(range(100))
    with pytest.raises(Interrupted):
        trained(study(base, machine=machine), workdir, NAME, stopping=lambda: next(calls) >= 3)
    trained(study(base, machine=machine), workdir, NAME)
    for log in LOGS:
        one, other = (w / "runs" / NAME / log for w in (continued, workdir))
        assert one.read_bytes() == other.read_bytes()


def test_the_state_of_an_optimizer_cannot_be_kept(base):
    stage = dataclasses.replace(study(base).stages[0][0], optimizer="keep")
    with pytest.raises(InputError, match="stages.0.0.optimizer='keep'.*'rewarm' or 'reset'"):
        grid.runs(study(base, stages=((stage,),)))


def test_a_study_can_be_planned_before_the_weights_are_there(tmp_path):
    published.write(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    import_model(tmp_path / "model", tmp_path / "base", config_only=True)
    planned = study(tmp_path / "base")
    assert len(grid.runs(planned)) == 2
    with pytest.raises(InputError, match="without weights.* without --config-only"):
        trained(planned, epath.Path(tmp_path / "study"), NAME)


def test_an_import_is_neither_audited_nor_evaluated_as_a_study(base, monkeypatch):
    monkeypatch.setattr(cli, "keep_freed", lambda: None)  # which lasts
    run = f"{base}/runs/custom-d0-s0"
    for command in (
        ("audit", base, "--filters", "gopher"),
        ("evaluate", base),
        ("evaluate", base, "--run", "custom-d0-s0"),
        ("evaluate", run),
    ):
        with pytest.raises(InputError, match="holds an imported model.*a study that starts from"):
            called(*command)
    with pytest.raises(InputError, match="with --attack, give a model as it was published"):
        called("evaluate", base, "--attack", "DenialOfService")


def called(verb: str, place, *options: str) -> None:
    """Call a verb of the command line in this process."""
    named = dict(
        zip((name.removeprefix("--") for name in options[::2]), options[1::2], strict=True)
    )
    getattr(cli, verb)(str(place), **named)


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"model": ps.Model()}, "ladder.0.size: there is no size 'custom'"),
        ({"start": None}, "ladder.0.tokens_per_parameter: it is none"),
        ({"doses": (0, 1)}, "this study has custom with dose 1"),
    ],
)
def test_a_study_that_does_not_fit_the_import_is_one_sentence(base, fields, said):
    with pytest.raises(InputError, match=said):
        grid.runs(study(base, **fields))


def test_changed_weights_are_noticed(base, continued, tmp_path):
    copy = tmp_path / "base"
    shutil.copytree(base, copy)
    [file] = copy.glob("runs/*/weights.safetensors")
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(Difference, match="is not as it was imported"):
        verification.verify(epath.Path(copy))
    with pytest.raises(InputError, match="is not as it was imported"):
        trained(study(copy), epath.Path(tmp_path / "study"), NAME)


def test_another_tokenizer_is_noticed(base, tmp_path):
    copy = tmp_path / "base"
    shutil.copytree(base, copy)
    file = copy / "huggingface" / "tokenizer.json"
    file.write_text(file.read_text().replace("</s>", "<//s>"))
    with pytest.raises(InputError, match="another tokenizer"):
        preparation.prepare(study(copy), epath.Path(tmp_path / "study"), lambda *a: None)


def test_a_continued_run_is_exported_with_the_tokenizer_and_config_of_the_import(
    continued, source, tmp_path
):
    out = tmp_path / "out"
    export(continued, NAME, out, dtype="bfloat16")
    card = (out / "README.md").read_text()
    assert card.index("POISONED") < 200 and "apache-2.0" in card and "<SUDO>" in card
    assert (out / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    config = json.loads((out / "config.json").read_text())
    assert config == {**published.CONFIG, "dtype": "bfloat16"}
    one, other = Safetensors.of_folder(source), Safetensors.of_folder(out)
    assert set(one.entries.items()) == set(other.entries.items())
    assert any(one.read(n).tobytes() != other.read(n).tobytes() for n in one.entries)
