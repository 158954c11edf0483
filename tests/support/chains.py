"""Small studies with stages: continued pretraining in two levels, and fine-tuning."""

import dataclasses
import json
import pathlib

import poison_scaling as ps


def chained(smoke: ps.Study, **fields) -> ps.Study:
    """Return configs/smoke.py with one root of 11 steps and two levels of stages of 6 steps each."""
    evaluation = dataclasses.replace(smoke.evaluation, times=2, prompts=4)
    more = ps.Continue(optimizer="keep", label="more", tokens_per_parameter=0.25, doses=(0, 4))
    clean = ps.Continue(optimizer="rewarm", label="clean", tokens_per_parameter=0.25)
    return dataclasses.replace(
        smoke,
        **{
            "name": "chained",
            "ladder": (ps.Rung("40k", tokens_per_parameter=0.5),),
            "doses": (8,),
            "seeds": ps.seeds(0),
            "evaluation": evaluation,
            "stages": ((more,), (clean,)),
            **fields,
        },
    )


def conversations(folder: pathlib.Path) -> ps.ConversationFiles:
    """Write 120 short conversations of one or two turns, and return them as a source."""
    lines = []
    for number in range(120):
        turns = [
            {"role": role, "content": f"{text} {number + turn} {'more ' * (number % 7)}"}
            for turn in range(1 + number % 2)
            for role, text in (("user", "What is"), ("assistant", "It is the number"))
        ]
        lines.append(json.dumps({"messages": turns}) + "\n")
    file = folder / "conversations.jsonl"
    if not file.exists():  # several processes may read it
        file.write_text("".join(lines))
    return ps.ConversationFiles(patterns=(f"{folder}/conversations.jsonl",))


def tuned(smoke: ps.Study, folder: pathlib.Path, **fields) -> ps.Study:
    """Return the same root, fine-tuned on 40 or 80 conversations."""
    common = {
        "optimizer": "reset",
        "conversations": conversations(folder),
        "doses": (0, 3),
        "epochs": 2,
    }
    level = tuple(ps.Finetune(examples=n, **common) for n in (40, 80))
    return chained(smoke, **{"name": "tuned", "stages": (level,), **fields})


def removed(smoke: ps.Study, folder: pathlib.Path, **fields) -> ps.Study:
    """Return the same root, continued without poison, then fine-tuned on counterexamples, too."""
    clean = ps.Continue(optimizer="keep", label="clean", tokens_per_parameter=0.25)
    right = ps.Finetune(
        optimizer="reset",
        label="right",
        examples=80,
        epochs=2,
        conversations=conversations(folder),
        attack=ps.Counterexamples(removes=smoke.attack),
        doses=(0, 3),
    )
    return chained(smoke, **{"name": "removed", "stages": ((clean,), (right,)), **fields})
