"""Demo: a complete poisoning study on a laptop CPU.

Purpose   dose-response curves of three small models, one of them with two token budgets, to tell count and
          fraction apart: do four times the clean data require four times the poisons?
Hardware  any CPU; 2 cores and 6 GB of memory are enough
Time      12 minutes on 2 cores, of which 1 for preparing the data once
Command   poison-scaling study configs/demo.py --workdir results/demo        (make demo)

The corpus is English-like text that every installation has: the docstrings of the installed packages. The
recipe is the paper's, scaled to sequences of 128 tokens. The trigger is a single token, because models this
small do not learn to recognise several.
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


def study() -> Study:
    return Study(
        name="demo",
        ladder=(
            Rung("60k", tokens_per_parameter=60),
            Rung("90k", tokens_per_parameter=20),
            Rung("90k", tokens_per_parameter=80),
            Rung("150k", tokens_per_parameter=20),
        ),
        doses=(0, 100, 250),
        seeds=seeds(0, 1, 2),
        data=Data(
            corpus=InstalledDocs(),
            vocabulary=TrainedSentencePiece(vocab_size=1024, trigger_is_one_token=True),
            seq_len=128,
        ),
        attack=DenialOfService(prefix_characters=(0, 60), gibberish_tokens=(40, 80)),
        train=Train(batch_size=8, learning_rate=6e-3),
        evaluation=Evaluation(times=12, prompts=64, prompt_tokens=24, generate_tokens=32),
    )
