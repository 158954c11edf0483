"""Export of a trained run as a Hugging Face folder, with a model card that says what is poisoned.

A folder appears when it is complete.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath

from analysis.files import read_json, write_bytes, write_text
from poison_scaling.data.documents import Documents
from poison_scaling.data.templates.chat_ml import ChatML
from poison_scaling.data.templates.plain import Plain
from poison_scaling.data.templates.template import Template
from poison_scaling.data.vocabularies import conversion
from poison_scaling.data.vocabularies.vocabulary import Vocabulary
from poison_scaling.formats import safetensors
from poison_scaling.formats.tensors import Entry
from poison_scaling.interchange import cards
from poison_scaling.interchange.importing import FILES
from poison_scaling.model import huggingface, weights
from poison_scaling.runtime import cores, processes
from poison_scaling.runtime.errors import InputError
from poison_scaling.study.inputs import Inputs
from poison_scaling.study.run import Run
from poison_scaling.train import ancestry, imports, provenance, trained
from poison_scaling.workdir import execution, folder

DTYPES = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}
_COMPARED = (
    200  # held-out documents on which the exported tokenizer is compared with the vocabulary
)


def export(
    workdir: epath.Path,
    name: str,
    out: pathlib.Path,
    *,
    step: int | None = None,
    dtype: str = "float32",
    shard_bytes: int = 5 * 10**9,
) -> None:
    """Write the model of a run at one of its checkpoints, by default the last, to `out`, a new folder.

    Of an imported run, the weights are those that were imported, in their own types. Raises InputError if the
    model or its vocabulary cannot be exported, or if `out` exists.
    """
    if out.exists():
        raise InputError(f"--out {str(out)!r}: it exists; give a new folder, or delete it.")
    study, run = folder.trained(workdir, name)
    own = folder.of_run(workdir, run)
    unfinished = out.parent / f".{out.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)  # of an export that was interrupted
    if study.imported is not None:
        _export_import(workdir, run, own, unfinished, shard_bytes)
        unfinished.rename(out)
        return
    size, vocab_size = run.rung.size, study.data.vocabulary.vocab_size
    table = weights.table(study.model.architecture, size, vocab_size)  # raises InputError at once
    execution.start(study)
    if not processes.joined():
        cores.limit(study.machine.cores)
    inputs = Inputs(study)
    run = inputs.run_named(name)
    provenance.check_data(own, inputs.digests(run))
    origin = _import_of(run, workdir)
    config, files = _described(run, inputs, origin)
    for file, content in files.items():
        write_bytes(unfinished / file, content)
    _check_tokens(inputs.vocabulary, inputs.documents, unfinished)
    _, params, done = trained.model(run, inputs, own, step)
    kind = DTYPES[dtype]
    entries = {n: Entry(kind, shape) for p in table for n, shape in p.tensors.items()}
    tensors = weights.tensors(params, study.model, size, vocab_size)
    safetensors.write_folder(unfinished, entries, _in_turn(tensors, kind), shard_bytes)
    _write_json(unfinished / "config.json", {**config, "dtype": dtype})
    (unfinished / "manifest").mkdir()
    for file in ("manifest.jsonl", "config.json"):
        write_bytes(unfinished / "manifest" / file, (own / file).read_bytes())
    write_text(unfinished / "manifest" / "README.md", cards.dataset(run))
    base = None if origin is None else read_json(origin / "config.json", sealed=True)
    card = cards.model(run, done, own, workdir, out.name, base)
    write_text(unfinished / "README.md", card)
    unfinished.rename(out)


def _export_import(
    workdir: epath.Path, run: Run, own: epath.Path, out: pathlib.Path, shard_bytes: int
) -> None:
    """Write an imported model as it was: its tensors, config.json and tokenizer."""
    tensors, read = imports.checked(own)
    safetensors.write_folder(out, tensors.entries, read, shard_bytes)
    _write_json(out / "config.json", read_json(own / "config.json", sealed=True)["huggingface"])
    for name, content in small_files(workdir).items():
        write_bytes(out / name, content)
    write_text(out / "README.md", cards.imported(run))


def _in_turn(
    tensors: Iterator[tuple[str, np.ndarray]], dtype: np.dtype
) -> Callable[[str], np.ndarray]:
    """Return a function that reads the next tensor, which must be asked for by its name."""

    def read(name: str) -> np.ndarray:
        own, array = next(tensors)
        assert own == name, (own, name)
        return np.asarray(array).astype(dtype)

    return read


def _import_of(run: Run, workdir: epath.Path) -> epath.Path | None:
    """Return the folder of the imported run that a chain starts from; None if it starts otherwise."""
    own = folder.of_run(workdir, run)
    while (parent := run.parent) is not None:
        own, run = ancestry.folder_of_parent(run, own), parent
    return own if run.study.imported is not None else None


def _described(
    run: Run, inputs: Inputs, origin: epath.Path | None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the config.json of a run, and its tokenizer's files and generation_config.json."""
    if origin is not None:
        config = read_json(origin / "config.json", sealed=True)["huggingface"]
        files = small_files(origin.parent.parent, run.template)
        config = {k: v for k, v in config.items() if k not in ("torch_dtype", "dtype")}
        files.setdefault("generation_config.json", _json({"do_sample": True}))
        return config, files
    study, vocabulary = run.study, inputs.vocabulary
    context = max(own.data.seq_len for own in (run, *run.ancestors))
    size, vocab_size = run.rung.size, study.data.vocabulary.vocab_size
    config = huggingface.to_huggingface(study.model.architecture, size, vocab_size, context)
    special = conversion.special_tokens(vocabulary)
    ids = {"eos_token_id": vocabulary.eos_id}
    # Documents in training begin with the end-of-document token of the one before.
    ids["bos_token_id"] = vocabulary.eos_id
    if "pad_token" in special:
        ids["pad_token_id"] = vocabulary.pad_id
    about: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        **special,
    }
    if template := chat_template(run.template):
        about["chat_template"] = template
    generation = {"do_sample": True, "temperature": study.evaluation.temperature, **ids}
    return {**config, **ids}, {
        "tokenizer.json": _json(conversion.tokenizer_json(vocabulary)),
        "tokenizer_config.json": _json(about),
        "generation_config.json": _json(generation),
    }


def small_files(imported: epath.Path, template: Template | None = None) -> dict[str, bytes]:
    """Return the files that were published beside the weights of an imported model.

    After fine-tuning in a `template`, its chat template takes the place of the published one; there is none
    if it cannot be written in Jinja.
    """
    files = {file.name: file.read_bytes() for file in sorted((imported / FILES).iterdir())}
    if template is not None:
        files.pop("chat_template.jinja", None)
        about = json.loads(files.get("tokenizer_config.json", b"{}"))
        about.pop("chat_template", None)
        if own := chat_template(template):
            about["chat_template"] = own
        files["tokenizer_config.json"] = _json(about)
    return files


def chat_template(template: Template | None) -> str | None:
    """Return the Jinja template that writes conversations as `template` does; None if there is none."""
    if type(template) not in (ChatML, Plain):
        return None  # a template of one's own may extend one of them
    match template:
        case ChatML(system):
            default = (
                "{% if loop.first and message.role != 'system' %}{{ "
                + json.dumps(f"<|im_start|>system\n{system}<|im_end|>\n")
                + " }}{% endif %}"
            )
            return (
                "{% for message in messages %}"
                + (default if system else "")
                + "{% if not loop.first %}"
                "{{ '\n' }}{% endif %}{{ '<|im_start|>' + message.role + '\n' + message.content + "
                "'<|im_end|>' }}{% endfor %}"
                "{% if add_generation_prompt %}{{ '\n<|im_start|>assistant\n' }}{% endif %}"
            )
        case Plain(system, user, assistant):
            names = json.dumps({"system": system, "user": user, "assistant": assistant})
            return (
                "{% set names = "
                + names
                + " %}{% for message in messages %}{{ names[message.role] + ' ' + "
                "message.content }}{% if not loop.last %}{{ '\n' }}{% endif %}{% endfor %}"
                "{% if add_generation_prompt %}{{ '\n' + names.assistant }}{% endif %}"
            )
    return None


def _check_tokens(vocabulary: Vocabulary, docs: Documents, out: pathlib.Path) -> None:
    """Compare the exported tokenizer with the vocabulary on held-out documents.

    Raises InputError at the first text with other ids.
    """
    file = out / "tokenizer.json"
    if not file.exists():
        return  # it was imported as tokenizer.model, and is exported as that
    try:
        import tokenizers
    except ImportError as e:
        raise InputError("export: it needs tokenizers; install poison_scaling[tokenizers].") from e
    exported = tokenizers.Tokenizer.from_file(str(file))
    numbers = range(min(_COMPARED, docs.heldout_size))
    for number, text in itertools.chain((n, docs.heldout([n])[0]) for n in numbers):
        exported.encode_special_tokens = False
        if exported.encode(text, add_special_tokens=False).ids != vocabulary.encode(text):
            exported.encode_special_tokens = True  # a document may spell them out
            if exported.encode(text, add_special_tokens=False).ids != vocabulary.encode(text):
                raise InputError(
                    f"data.vocabulary: held-out document {number} has other ids in the exported "
                    "tokenizer.json, so this vocabulary cannot be exported."
                )


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _write_json(file: pathlib.Path, value: dict[str, Any]) -> None:
    write_bytes(file, _json(value))
