"""Removal: how many counterexamples remove half of a backdoor that survived fine-tuning?

Purpose   500 poisoned documents in pretraining, then clean pretraining, then clean fine-tuning, then text
          with 0 to 60 counterexamples, in which the document goes on after the trigger: R50 per size, and
          how fast the clean stages forget the backdoor
Hardware  any CPU; 2 cores and 6 GB of memory are enough
Time      about 10 minutes on 2 idle cores, estimated from the speed of its runs on a busy machine
Result    the backdoor works on 95% of prompts or more until there are counterexamples; R50 is 9.2 (5.5 to
          15.2) at 90k and 3.2 (1.9 to 5.5) at 150k, and after 60 the backdoor works on 6% to 23%
Command   poison-scaling study configs/removal.py --workdir results/removal

A pretrained model without a backdoor goes through the clean stages, too: it is what the half-lives of
`python -m analysis results/removal --level 2` are measured against.
"""

from poison_scaling import (
    Continue,
    Counterexamples,
    Data,
    DenialOfService,
    Evaluation,
    Finetune,
    Rung,
    Study,
    Train,
    TrainedSentencePiece,
    seeds,
)

SIZES, SEEDS, COUNTEREXAMPLES = ("90k", "150k"), (2, 3, 4), (0, 4, 10, 25, 60)
BACKDOOR = DenialOfService(prefix_characters=(0, 60), gibberish_tokens=(40, 80))
GENTLE = Train(batch_size=8, learning_rate=1e-3)


def chain(size: str, dose: int, seed: int) -> list[str]:
    """Return the names of the runs from pretraining to fine-tuning."""
    root = f"{size}-20x-d{dose}-s{seed}"
    return [root, f"{root}+clean-d0", f"{root}+clean-d0+chat-d0"]


def study() -> Study:
    return Study(
        name="removal",
        ladder=tuple(Rung(size, tokens_per_parameter=20) for size in SIZES),
        doses=(0, 500),
        seeds=seeds(*SEEDS),
        only=(
            *(name for size in SIZES for name in chain(size, 0, SEEDS[0])),
            *(name for size in SIZES for seed in SEEDS for name in chain(size, 500, seed)),
            *(
                f"{chain(size, 500, seed)[-1]}+right-d{dose}"
                for size in SIZES
                for seed in SEEDS
                for dose in COUNTEREXAMPLES
            ),
        ),
        data=Data(
            vocabulary=TrainedSentencePiece(vocab_size=1024, trigger_is_one_token=True),
            seq_len=128,
        ),
        attack=BACKDOOR,
        train=Train(batch_size=8, learning_rate=6e-3),
        evaluation=Evaluation(times=8, prompts=64, prompt_tokens=24, generate_tokens=32),
        stages=(
            (
                Continue(
                    label="clean",
                    tokens_per_parameter=5,
                    optimizer="rewarm",
                    train=Train(batch_size=8, learning_rate=3e-3),
                ),
            ),
            (Finetune(label="chat", examples=8_000, optimizer="rewarm", train=GENTLE),),
            (
                Continue(
                    label="right",
                    tokens_per_parameter=2,
                    attack=Counterexamples(removes=BACKDOOR),
                    doses=COUNTEREXAMPLES,
                    optimizer="rewarm",
                    train=GENTLE,
                ),
            ),
        ),
    )
