"""Tables of plans and of model sizes for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from poison_scaling.filters import pipelines
from poison_scaling.model.architectures import decoder, gpt_neox, llama, olmo2
from poison_scaling.study.plan import Plan
from poison_scaling.study.settings import Study


def print_plans(
    console: Console,
    study: Study,
    plans: list[Plan],
    exact: bool,
    on_slices: dict[str, dict],
    filtered: dict[str, Any],
) -> None:
    """Print every run with its cost; `on_slices` has the slice and the days of training by run.

    `filtered` is `Inputs.filtered`, {} if the data is not prepared.
    """
    title = Text(f"Study {study.name} ({study.hash})")  # a name may look like markup
    table = Table(title=title, box=None, header_style="bold")
    heads = (
        *("run", "parameters", "tokens", "steps"),
        *("documents", *(("survive",) if filtered else ())),
        *("exposures", "poisoned steps", "poison tokens", "share", "FLOPs"),
        *(("slice", "days") if on_slices else ()),
    )
    for head in heads:
        table.add_column(head, justify="left" if head == "run" else "right", no_wrap=True)
    for p in plans:
        about = "" if exact or not p["dose"] else "≈"
        on = on_slices.get(p["run"])
        table.add_row(
            p["run"],
            f"{p['parameters']:,}",
            f"{p['tokens']:,}",
            f"{p['steps']:,}",
            f"{p['dose']:,}",
            *((f"{p.get('survivors', p['dose']):,}",) if filtered else ()),
            f"{p.get('surviving_exposures', _exposures(p)):,}",
            f"{p['poisoned_steps']:,}",
            f"{about}{p['poison_tokens']:,.0f}",
            f"{about}{p['poison_share']:.3g}",
            f"{p['flops']:.2e}",
            *((on["slice"], f"{on['days']:.3g}") if on else ("", "") if on_slices else ()),
        )
    wide = _wide(console, 160)
    wide.print(table)
    tokens, flops = sum(p["tokens"] for p in plans), sum(p["flops"] for p in plans)
    wide.print(f"{len(plans)} runs, {tokens:,} tokens, {flops:.2e} FLOPs in all.", highlight=False)
    for line in _about_filters(study, filtered):
        wide.print(line, highlight=False)
    if on_slices:
        wide.print(
            f"Days of training alone, at {study.machine.mfu:.0%} of the chips' peak (machine.mfu)."
        )


def _about_filters(study: Study, filtered: dict[str, Any]) -> list[str]:
    """Return what the filters of a study remove, as far as it is known."""
    names = ", ".join(pipelines.name_of(each) for each in study.data.chain)
    if not filtered:
        said = f"Filters ({names}) catch some of the documents; --exact counts those that survive."
        return [said] if names else []
    lines = [
        f"Filters ({names}) remove {own['removed']:,} of {own['documents']:,} training documents of {field} "
        f"({own['removed'] / own['documents']:.1%}){_most(own['rules'])}."
        for field, own in filtered["corpora"].items()
    ]
    for own in filtered["poisons"]:
        caught, stages = own["submitted"] - own["survivors"], own["level"]
        after = f" after {stages} stage{'s' if stages > 1 else ''}" if stages else ""
        lines.append(
            f"Of {own['submitted']:,} poisons of {own['attack']} with seed {own['seed']}{after} they catch "
            f"{caught:,} ({caught / own['submitted']:.1%}){_most(own['rules'])}."
        )
    return lines


def _most(rules: dict[str, int]) -> str:
    """Return the rules that most documents break, with their counts."""
    some = sorted(rules.items(), key=lambda item: (-item[1], item[0]))[:3]
    return f": {', '.join(f'{rule} {count:,}' for rule, count in some)}" if some else ""


def _exposures(plan: Plan) -> int:
    """Return the number of exposures of all documents of the first insertion."""
    if "levels" in plan:
        return sum(exposures * documents for exposures, documents in plan["levels"])
    return plan["dose"] * plan["exposures"]


def print_sizes(console: Console) -> None:
    """Print the sizes of each architecture: parameters, FLOPs per token, Chinchilla-optimal tokens."""
    groups = (
        ("Decoder: laptop", decoder.LAPTOP, 1024, 128),
        ("Decoder: accelerators", decoder.ACCELERATOR, 32_000, 2048),
        ("GPTNeoX: Pythia", gpt_neox.SIZES, 50_304, 2048),
        ("Llama: SmolLM2", llama.SMOLLM2, 49_152, 2048),
        ("Llama: Llama 2, Mistral", llama.LLAMA_2, 32_000, 4096),
        ("Llama: Llama 3", llama.LLAMA_3, 128_256, 4096),
        ("Llama: Qwen2.5", llama.QWEN2_5, 151_936, 4096),
        ("OLMo2: OLMo 2", olmo2.SIZES, 100_352, 4096),
    )
    heads = (
        *("size", "width", "layers", "heads", "mlp"),
        *("parameters", "FLOPs per token", "Chinchilla tokens", "FLOPs for them"),
    )
    wide = _wide(console, 120)
    for title, group, vocab_size, seq_len in groups:
        about = f"{title}: vocabulary {vocab_size:,}, sequences of {seq_len:,} tokens"
        table = Table(title=about, title_justify="left", box=None, header_style="bold")
        for head in heads:
            table.add_column(head, justify="left" if head == "size" else "right", no_wrap=True)
        for name, d in group.items():
            parameters = d.parameters(vocab_size)
            per_token = d.train_flops_per_token(vocab_size, seq_len)
            tokens = decoder.CHINCHILLA_TOKENS_PER_PARAMETER * parameters
            own = "" if d.groups == d.heads else f"/{d.groups}"  # of keys and values
            shape = (str(d.width), str(d.layers), f"{d.heads}{own}", str(d.mlp))
            computed = (f"{per_token:.3g}", f"{tokens:.3g}", f"{per_token * tokens:.3g}")
            table.add_row(name, *shape, f"{parameters:,}", *computed)
        wide.print(table)
    wide.print(
        "Heads: of queries, and of keys and values where those are fewer. FLOPs: 6 per weight in a matrix "
        "product, 12 x layers x heads x head width x seq_len for attention (PaLM). "
        f"Chinchilla: {decoder.CHINCHILLA_TOKENS_PER_PARAMETER} tokens per parameter.",
        highlight=False,
    )


def _wide(console: Console, width: int) -> Console:
    """Return a console as wide as its tables, because piped output would otherwise be cut to 80 columns."""
    return console if console.is_terminal else Console(width=width)
