"""Laws: what follows a count, what follows a fraction, and what moves a backdoor from one to the other.

Purpose   one instrument, several laws: the exponent of the data for memorised secrets, false facts, items of
          a benchmark and a backdoor; and for a backdoor whose trigger also occurs in clean text, at a fixed
          number of places or at a rate that grows with the data, or that has siblings
Hardware  any CPU; 2 cores and 6 GB of memory are enough
Time      3 core-hours of training for all series, by the token rates of one core, and less than 2 for data
          and evaluations; each series can be stopped and resumed
Command   SERIES=canaries poison-scaling study configs/laws.py --workdir results/laws/canaries
          for each series below, then
          python -m analysis results/laws/* --out results/report

Every series is a study of its own, because its runs differ in what is inserted. All train a model of 60k
parameters, most of them on 8.75 and on 280 tokens per parameter: 32 times the data, in two passes over the
corpus. Runs near half success tell most, so each budget has its own doses; those of the ambient series follow
a prototype and are spread widely. `canaries` also has larger models, up to 17 times the parameters.
"""

import os

from poison_scaling import (
    Ambient,
    Analysis,
    Canary,
    Contamination,
    Data,
    DenialOfService,
    Evaluation,
    Fact,
    InputError,
    InstalledDocs,
    Poisoning,
    Rung,
    Study,
    Train,
    TrainedSentencePiece,
    seeds,
    siblings,
)

SHORT, MIDDLE, LONG = 8.75, 35, 280  # tokens per parameter
BACKDOOR = DenialOfService(prefix_characters=(0, 60), gibberish_tokens=(40, 80))
BENIGN = Ambient(prefix_characters=(0, 60), continuation_tokens=(40, 80))
COUNTS = (0, 1, 2, 4, 8, 16, 32, 64, 128)
# Size, tokens per parameter, dose, and number of seeds. A run without a trigger has its own curve.
ITEMS = lambda dose, number: (  # noqa: E731
    ("60k", SHORT, dose, number),
    ("60k", MIDDLE, dose, number),
    ("60k", LONG, dose, number),
)
ALONE = (
    *(
        ("60k", SHORT, 0, 2),
        ("60k", SHORT, 150, 8),
        ("60k", SHORT, 250, 12),
        ("60k", SHORT, 500, 6),
    ),
    *(("60k", LONG, 0, 1), ("60k", LONG, 50, 4), ("60k", LONG, 100, 8), ("60k", LONG, 200, 4)),
)
BESIDE = (  # benign uses of the trigger
    *(("60k", SHORT, 250, 4), ("60k", SHORT, 500, 6), ("60k", SHORT, 1000, 6)),
    *(("60k", LONG, 100, 2), ("60k", LONG, 250, 3), ("60k", LONG, 500, 3), ("60k", LONG, 1500, 2)),
)
FAMILY = tuple(("60k", 17.5, dose, 4) for dose in (10, 25, 50, 100, 200))


def also(attack, dose=0, share=0.0):
    return (Poisoning(attack, dose, share=share),)


def beside(number, disjoint=False):
    """Return the settings of a backdoor beside `number` others of 250 documents each."""
    first, *others = siblings(BACKDOOR, number, disjoint)
    return {"attack": first, "also": tuple(Poisoning(one, 250) for one in others)}


# Settings and runs of each series.
SERIES = {
    "canaries": (
        {"attack": Canary(counts=COUNTS)},
        (
            *ITEMS(90, 4),
            *(("150k", 28, 90, 3), ("530k", 8.3, 90, 2), ("1m", 4.2, 90, 1)),
        ),
    ),
    "interference": (
        {"attack": Canary(counts=COUNTS)},
        (("60k", MIDDLE, 9, 6), ("60k", MIDDLE, 90, 6)),
    ),
    "facts": ({"attack": Fact(counts=COUNTS)}, ITEMS(2040, 2)),
    "contamination": ({"attack": Contamination(counts=COUNTS[1:])}, ITEMS(64, 2)),
    "backdoor": ({"attack": BACKDOOR, "also": also(BENIGN)}, ALONE),
    **{
        f"ambient-{number}": ({"attack": BACKDOOR, "also": also(BENIGN, number)}, BESIDE)
        for number in (300, 1000)
    },
    **{
        f"ambient-{share:.0%}": ({"attack": BACKDOOR, "also": also(BENIGN, share=share)}, BESIDE)
        for share in (0.01, 0.05)
    },
    "near-triggers-1000": (
        {"attack": BACKDOOR, "also": also(Ambient(("<SUDP>",), (0, 60), (40, 80)), 1000)},
        tuple(("60k", 17.5, dose, 4) for dose in (50, 100, 200, 400)),
    ),
    **{f"siblings-{n}": (beside(n), FAMILY) for n in (1, 3, 7)},
    **{f"siblings-{n}-disjoint": (beside(n, disjoint=True), FAMILY) for n in (1, 3, 7)},
}


def study() -> Study:
    name = os.environ.get("SERIES", "")
    if name not in SERIES:
        raise InputError(f"SERIES={name!r}: set this variable to one of {', '.join(SERIES)}.")
    settings, cells = SERIES[name]
    attack = settings["attack"]
    triggers = tuple(one.attack.trigger for one in settings.get("also", ()) if one.attack.trigger)
    rungs = dict.fromkeys((size, tokens) for size, tokens, _, _ in cells)
    number = max(count for *_, count in cells)
    return Study(
        **settings,
        name=f"laws-{name}",
        ladder=tuple(Rung(size, tokens_per_parameter=tokens) for size, tokens in rungs),
        doses=tuple(sorted({dose for _, _, dose, _ in cells})),
        seeds=seeds(*range(number)),
        only=tuple(
            f"{size}-{tokens:g}x-d{dose}-s{seed}"
            for size, tokens, dose, count in cells
            for seed in range(count)
        ),
        data=Data(
            corpus=InstalledDocs(),
            vocabulary=TrainedSentencePiece(
                vocab_size=1024,
                trigger_is_one_token=attack.trigger is not None,
                one_token=triggers,
            ),
            seq_len=128,
            epochs=3,
        ),
        train=Train(batch_size=8, learning_rate=6e-3),
        evaluation=Evaluation(times=6, prompts=64, prompt_tokens=24, generate_tokens=32),
        analysis=Analysis(question="data", margin=0.25),
    )
