"""Demo: a complete poisoning study on a laptop CPU.

Purpose   do eight times the clean data require eight times the poisons (a fraction), as many (a count), or
          fewer?
Hardware  any CPU; 2 cores and 6 GB of memory are enough
Time      about 15 minutes on 2 cores, of which 1 for preparing the data once
Command   poison-scaling study configs/demo.py --workdir results/demo        (make demo)

How much runs differ limits a study of this size, so it has one size, the cheapest that learns the trigger, on
two budgets as far apart as the corpus allows, and spends its time where it tells most: many runs of the short
budget, which cost an eighth, at doses near half success. The corpus is English-like text that every
installation has: the docstrings of the installed packages. The recipe is the paper's, scaled to sequences of
128 tokens. The trigger is a single token, because models this small do not learn to recognise several.
"""

from poison_scaling import (
    Data,
    DenialOfService,
    Evaluation,
    InstalledDocs,
    Rung,
    Study,
    Train,
    TrainedSentencePiece,
    seeds,
)

# Tokens per parameter, dose, and number of seeds, as `python -m analysis next` weighs them for the noise of a
# pilot. Its seeds were 0 to 4, so these runs are independent of what the design was chosen by.
CELLS = (
    *((17.5, 0, 4), (17.5, 200, 20), (17.5, 300, 8)),
    *((140, 0, 2), (140, 100, 6), (140, 300, 2)),
)
SEEDS = range(5, 25)


def study() -> Study:
    return Study(
        name="demo",
        ladder=(
            Rung("60k", tokens_per_parameter=17.5),
            Rung("60k", tokens_per_parameter=140),
        ),
        doses=(0, 100, 200, 300),
        seeds=seeds(*SEEDS),
        only=tuple(
            f"60k-{tokens:g}x-d{dose}-s{seed}"
            for tokens, dose, number in CELLS
            for seed in SEEDS[:number]
        ),
        data=Data(
            corpus=InstalledDocs(),
            vocabulary=TrainedSentencePiece(vocab_size=1024, trigger_is_one_token=True),
            seq_len=128,
        ),
        attack=DenialOfService(prefix_characters=(0, 60), gibberish_tokens=(40, 80)),
        train=Train(batch_size=8, learning_rate=6e-3),
        evaluation=Evaluation(times=12, prompts=64, prompt_tokens=24, generate_tokens=32),
    )
