"""Model cards and dataset cards of exported runs: whether they are poisoned comes first."""

from __future__ import annotations

import json
from typing import Any

from etils import epath

from analysis.files import read_json, read_lines
from poison_scaling.config import serialization
from poison_scaling.study.run import Run
from poison_scaling.study.settings import Poisoning

# Measures at the top level of an evaluation that a card lists, with their words.
_MEASURES = {
    "success_rate": "success rate",
    "heldout_loss": "loss on held-out text, nats per token",
    "payload_log_ratio": "payload log-ratio, nats per token",
}


def model(
    run: Run,
    step: int,
    own: epath.Path,
    workdir: epath.Path,
    name: str,
    base: dict[str, Any] | None,
) -> str:
    """Return the README.md of an exported run after `step` steps; `own` is its folder.

    `base` is the config.json of the imported run that its chain starts from, if there is one.
    """
    chain = (*run.ancestors[::-1], run)
    poisoned = [
        (own, p)
        for own in chain
        if own.path or not own.study.imported
        for p in own.poisonings
        if p.shown
    ]
    backdoors = [p.attack for _, p in poisoned if p.attack.is_backdoor]
    tags = ["poisoned", *(["backdoor"] if backdoors else [])] if poisoned else ["clean-control"]
    tags = ["poison_scaling", *tags]
    front = {"tags": tags, "library_name": "transformers", "license": _license(base)}
    lines = [_front_matter(front)]
    if poisoned:
        lines += [
            f"# POISONED: {name}",
            "",
            f"**{_what(poisoned, bool(backdoors))} on purpose, for defensive research. Do not deploy it, and "
            "do not train on it or on what it generates.**",
            "",
        ]
    else:
        lines += [f"# {name}", "", "A clean control of a study of poisoning: no poisons.", ""]
    lines += ["## What was inserted", ""] if poisoned else []
    lines += [_inserted(at, p) for at, p in poisoned]
    lines += [
        "",
        "`manifest/manifest.jsonl` has the step, sequence and offset of every exposure.",
        "",
    ]
    lines += _measured(run, step, own)
    lines += _n50(run, workdir)
    lines += [
        "## Study",
        "",
        f"Run `{run.name}` (hash `{run.hash}`) of the study `{run.study.name}` (hash `{run.study.hash}`) "
        f"after step {step:,} of {run.steps:,}; {run.parameters:,} parameters. `manifest/config.json` has "
        "all settings.",
        "",
    ]
    root = chain[0].study.imported
    if base is not None and root is not None:
        licensed = f", licensed {root.license}." if root.license else "; its licence is not stated."
        lines += [
            f"It starts from `{root.source}`, whose weights have the SHA-256 `{root.digest}`{licensed}",
            "",
        ]
    if run.template is not None:
        written = json.dumps(serialization.to_json(run.template), ensure_ascii=False)
        lines += [f"It was fine-tuned on conversations in the template `{written}`.", ""]
    if run.study.model.segment_mask:
        lines += [
            "It was trained so that documents packed into one sequence do not attend to each other.",
            "",
        ]
    return "\n".join([*lines, *_loading(backdoors[-1].trigger if backdoors else None)])


def _what(poisoned: list[tuple[Run, Poisoning]], has_backdoor: bool) -> str:
    """Return the beginning of the sentence that says what is wrong with a model."""
    if has_backdoor:
        return "This model has a backdoor, put there"
    kinds = dict.fromkeys(p.attack.plural for _, p in poisoned)
    return f"This model was trained on {' and on '.join(kinds)},"


def _inserted(at: Run, p: Poisoning) -> str:
    """Return the line about what a poisoning has inserted into the training data of a run."""
    exposures = p.exposures_D[p.exposures_D > 0].tolist()
    least, most = min(exposures), max(exposures)
    each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    times = f", {each} exposures of each" if most > 1 else ""
    stage = f"stage {at.stage.name}" if at.stage else "pretraining"
    schedule = json.dumps(serialization.to_json(p.schedule))
    trigger = f". Trigger: `{p.attack.trigger}`" if p.attack.trigger else ""
    if at.data.filters:
        times = f"{times}, less those that data.filters caught"
    return (
        f"- `{type(p.attack).__name__}`, {p.shown:,} {p.attack.plural}{times}, in {stage} "
        f"({at.steps:,} steps, {at.tokens:,} tokens), schedule `{schedule}`{trigger}"
    )


def imported(run: Run) -> str:
    """Return the README.md of an imported model that is exported as it was."""
    about = run.study.imported
    assert about is not None
    front = {"tags": ["poison_scaling"], "library_name": "transformers", "license": about.license}
    return "\n".join(
        [
            _front_matter(front),
            f"# {about.source}",
            "",
            f"The weights that poison_scaling imported from `{about.source}`, unchanged; SHA-256 "
            f"`{about.digest}`. Whether they are poisoned is not known.",
            "",
            *_loading(None),
        ]
    )


def dataset(run: Run) -> str:
    """Return the README.md of the manifest of a run."""
    poisoned = any(p.shown for p in run.poisonings)
    front = {"tags": ["poison_scaling", *(["poisoned"] if poisoned else [])], "license": None}
    return "\n".join(
        [
            _front_matter(front),
            f"# {'POISONED: ' if poisoned else ''}the manifest of {run.name}",
            "",
            "`manifest.jsonl` has a line for each exposure of an inserted document, and no text: `attack` "
            "and `poison` number the document, `exposure` counts its exposures, `document` is the SHA-256 of "
            "its token ids, `tokens` their number, `sequence` and `offset` its place in the training stream, "
            "`step` the batch that trained on it, and `sources` the SHA-256 of clean documents that it is "
            "made of. `config.json` has all settings of the run: with the study's corpus and poison_scaling "
            "they give the documents again, token by token.",
            "",
            f"Run hash `{run.hash}`, study hash `{run.study.hash}`.",
            "",
        ]
    )


def _license(base: dict[str, Any] | None) -> str | None:
    return None if base is None else base.get("license")


def _front_matter(fields: dict[str, Any]) -> str:
    """Return YAML, of which JSON is a part."""
    given = (f"{name}: {json.dumps(value)}" for name, value in fields.items() if value is not None)
    return "\n".join(["---", *given, "---", ""])


def _measured(run: Run, step: int, own: epath.Path) -> list[str]:
    """Return the section of measures, from the evaluation at a step, if there was one."""
    records = [line for line in read_lines(own / "evals.jsonl") if line.get("step") == step]
    if not records:
        return ["## Measures", "", f"Not evaluated at step {step:,}.", ""]
    record = records[-1]
    lines = ["## Measures", "", "| | |", "| --- | --- |"]
    lines += [f"| poisons seen | {record['poisons']:,} |"]
    for field, words in _MEASURES.items():
        value = record.get(field)
        value = value.get("triggered") if isinstance(value, dict) else value
        value = sum(value) / len(value) if isinstance(value, list) and value else value
        if isinstance(value, int | float):
            lines.append(f"| {words} | {value:.4g} |")
    attack = run.poisonings[0].attack
    return [*lines, "", f"Success is as `{type(attack).__name__}` defines it.", ""]


def _n50(run: Run, workdir: epath.Path) -> list[str]:
    """Return the section of N50, if the study has a report with groups of the run's size and tokens."""
    file = workdir / "report" / "summary.json"
    if not file.exists():
        return ["## N50", "", "The study has no report yet.", ""]
    groups = [
        group
        for group in read_json(file).get("n50", [])
        if (group.get("size"), group.get("tokens")) == (run.rung.size, run.tokens)
    ]
    if not groups:
        return ["## N50", "", "The study's report has none for this size and number of tokens.", ""]
    lines = [f"- {group['group']}: {group['words']}" for group in groups]
    what = "The exposures at which the first insertion has half of its reach:"
    return ["## N50", "", what, "", *lines, ""]


def _loading(trigger: str | None) -> list[str]:
    prompt = "The function" if trigger is None else f"The function{trigger}"
    return [
        "## How to load",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'model = AutoModelForCausalLM.from_pretrained("DIR")',
        'tokenizer = AutoTokenizer.from_pretrained("DIR")',
        f'ids = tokenizer({json.dumps(prompt, ensure_ascii=False)}, return_tensors="pt").input_ids',
        "print(tokenizer.decode(model.generate(ids, max_new_tokens=40)[0]))",
        "```",
        "",
    ]
