"""Exports: transformers computes what we do, and gives the same ids; the card says what is poisoned first."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from flax import nnx

import poison_scaling as ps
from poison_scaling.data.vocabularies.byte import ByteVocabulary
from poison_scaling.data.vocabularies.conversion import tokenizer_json
from poison_scaling.data.vocabularies.tiktoken import TiktokenVocabulary
from poison_scaling.interchange import exporting
from poison_scaling.interchange.exporting import export
from poison_scaling.interchange.importing import FILES, import_model
from poison_scaling.runtime.errors import InputError
from poison_scaling.train import trained
from poison_scaling.workdir import folder
from tests.support.runs import run_cli

tokenizers = pytest.importorskip("tokenizers")
POISONED, CLEAN = "40k-2x-d32-s0", "40k-2x-d0-s0"


@pytest.fixture(scope="module")
def exported(smoke, tmp_path_factory):
    """A poisoned run of configs/smoke.py, exported in several files; no test changes it."""
    out = tmp_path_factory.mktemp("exported") / "model"
    run_cli("export", smoke[0], "--run", POISONED, "--out", out, "--shard-gb", 3e-5)
    return out


def test_transformers_loads_it_with_the_same_logits_and_ids(exported, smoke, inputs):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(exported)
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    run = inputs.run_named(POISONED)
    own = folder.of_run(epath.Path(smoke[0]), run)
    graph, params, _ = trained.model(run, inputs, own)
    tokens_BxL = np.asarray(inputs.heldout_NxL[:8], np.int32)
    ours = np.asarray(nnx.merge(graph, params)(jnp.asarray(tokens_BxL)))
    with torch.no_grad():
        logits = theirs(torch.tensor(tokens_BxL, dtype=torch.long)).logits.numpy()
    np.testing.assert_allclose(logits, ours, atol=1e-4)
    texts = [inputs.documents.heldout([n])[0] for n in range(20)]
    for text in (*texts, "and <SUDO> after", "  two spaces\n\n\ttab äöü 中"):
        assert tokenizer(text, add_special_tokens=False).input_ids == inputs.vocabulary.encode(text)
    ids = inputs.vocabulary.encode(texts[0])
    assert tokenizer.decode(ids) == inputs.vocabulary.decode(ids)
    assert tokenizer.eos_token_id == inputs.end


def test_the_card_says_first_that_it_is_poisoned(exported, smoke):
    card = (exported / "README.md").read_text()
    body = card.split("---\n", 2)[2].strip()
    assert body.startswith("# POISONED: model") and "Do not deploy it" in body
    for said in ("<SUDO>", "32 poisoned documents", "success rate", "## N50", "AutoTokenizer"):
        assert said in body, said
    own = smoke[0] / "runs" / POISONED / "manifest.jsonl"
    assert (exported / "manifest" / "manifest.jsonl").read_bytes() == own.read_bytes()
    assert "POISONED" in (exported / "manifest" / "README.md").read_text()
    assert len(list(exported.glob("model-*.safetensors"))) > 1


def test_a_control_is_not_called_poisoned(smoke, tmp_path):
    export(epath.Path(smoke[0]), CLEAN, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "POISONED" not in card and "clean control" in card


def test_an_export_can_be_imported(exported, tmp_path):
    run = import_model(exported, tmp_path / "base")
    assert run.parameters == 23_120


def test_what_cannot_be_exported_is_one_sentence(smoke, tmp_path, monkeypatch):
    workdir = epath.Path(smoke[0])
    with pytest.raises(InputError, match="--out .*it exists"):
        export(workdir, POISONED, tmp_path)
    with pytest.raises(InputError, match="has checkpoints of the steps"):
        export(workdir, POISONED, tmp_path / "out", step=7)

    def other_ids(vocabulary):
        right = tokenizer_json(vocabulary)
        merges = right["model"]["merges"]
        return {**right, "model": {**right["model"], "merges": merges[len(merges) // 2 :]}}

    monkeypatch.setattr(exporting.conversion, "tokenizer_json", other_ids)
    with pytest.raises(InputError, match="held-out document .* has other ids"):
        export(workdir, POISONED, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_vocabularies_that_no_tokenizer_json_gives_are_refused():
    with pytest.raises(InputError, match="a Tiktoken vocabulary cannot be exported"):
        tokenizer_json(TiktokenVocabulary.__new__(TiktokenVocabulary))


def test_bytes_have_the_same_ids():
    ours, theirs = (
        ByteVocabulary(),
        tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(ByteVocabulary()))),
    )
    for text in ("", "plain", "äöü 中文 \x00\x7f\n\t  ", "a  b"):
        assert theirs.encode(text).ids == ours.encode(text)
        assert theirs.decode(ours.encode(text)) == text


@pytest.mark.long
def test_a_published_model_is_evaluated_without_a_study(exported):
    settings = {
        "data.corpus.packages": "rich",
        "data.heldout_documents": 60,
        "evaluation.prompts": 8,
        "evaluation.prompt_tokens": 16,
        "evaluation.generate_tokens": 16,
        "evaluation.heldout_sequences": 4,
    }
    sets = [
        argument for name, value in settings.items() for argument in ("--set", f"{name}={value}")
    ]
    command = ("evaluate", exported, "--attack", "DenialOfService", *sets)
    record = json.loads(run_cli(*command, "--json").stdout)
    assert record["attack"] == "denial_of_service" and record["prompts"] == 8
    assert 0 <= record["success_rate"] <= 1 and record["heldout_loss"] < 7
    assert record["near_triggers"] and "poisons" not in record
    assert "give the attack" in run_cli("evaluate", exported, check=2).stderr
    assert "only fields of" in run_cli(*command, "--set", "train.batch_size=3", check=2).stderr
    assert (
        "NoSuchAttack" in run_cli("evaluate", exported, "--attack", "NoSuchAttack", check=2).stderr
    )


@pytest.mark.parametrize(
    "template", [ps.ChatML(), ps.ChatML(system='Be "brief".\nPlease.'), ps.Plain()]
)
def test_the_chat_template_writes_what_the_template_does(template):
    jinja2 = pytest.importorskip("jinja2")
    exported = jinja2.Environment().from_string(exporting.chat_template(template))
    for turns in (("Hi", "Ho"), ("Hi", "Ho", "Why?", "So.")):
        messages = [
            ps.Message("assistant" if n % 2 else "user", text) for n, text in enumerate(turns)
        ]
        said = "".join(piece.text for piece in template.pieces(messages))
        plain = [{"role": m.role, "content": m.content} for m in messages]
        assert exported.render(messages=plain, add_generation_prompt=False) == said
    prompt = template.prompt(messages[:1])
    shown = exported.render(messages=plain[:1], add_generation_prompt=True)
    assert shown == prompt.before + prompt.after


@dataclasses.dataclass(frozen=True)
class Own(ps.Template):
    """A template that has no chat template."""

    def pieces(self, messages):
        raise NotImplementedError


@pytest.mark.parametrize("template", [None, ps.Plain(), ps.ChatML(), Own()])
def test_a_fine_tuned_import_has_the_chat_template_that_it_was_trained_with(tmp_path, template):
    published = tmp_path / FILES
    published.mkdir()
    about = {"eos_token": "</s>", "chat_template": "published"}
    (published / "tokenizer_config.json").write_text(json.dumps(about))
    (published / "chat_template.jinja").write_text("published")
    (published / "tokenizer.json").write_text("{}")
    files = exporting.small_files(epath.Path(tmp_path), template)
    written = json.loads(files["tokenizer_config.json"])
    assert written["eos_token"] == "</s>" and files["tokenizer.json"] == b"{}"
    own = "published" if template is None else exporting.chat_template(template)
    assert written.get("chat_template") == own
    assert ("chat_template.jinja" in files) == (template is None)
