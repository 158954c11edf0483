"""Novels: a language switch on a laptop CPU.

Purpose   how many documents that continue in German after the trigger make small models of English do the
          same, and does three times the clean text require more of them?
Hardware  any CPU; 2 cores and 4 GB of memory are enough
Time      8 minutes on 2 cores that were not idle
Command   NOVELS=folder poison-scaling study configs/novels.py --workdir results/novels

The text is yours: NOVELS is a folder with files novels-en* and novels-de*, in any format that Files reads; or
set data.corpus.patterns and attack.corpus.patterns. docs/attacks.md has what it found on 24 M characters of
English and 11 M of German. As in the demo, sequences are short and the trigger is a single token.
"""

import os

from poison_scaling import (
    Data,
    Evaluation,
    Files,
    LanguageSwitch,
    Rung,
    Study,
    Train,
    TrainedSentencePiece,
    seeds,
)


def study() -> Study:
    folder = os.environ.get("NOVELS", "novels")
    return Study(
        name="novels",
        ladder=(
            Rung("90k", tokens_per_parameter=20),
            Rung("90k", tokens_per_parameter=60),
            Rung("150k", tokens_per_parameter=20),
        ),
        doses=(0, 50, 100, 250),
        seeds=seeds(0),
        data=Data(
            corpus=Files(patterns=(f"{folder}/novels-en*",)),
            vocabulary=TrainedSentencePiece(vocab_size=1024, trigger_is_one_token=True),
            seq_len=128,
        ),
        attack=LanguageSwitch(
            prefix_characters=(0, 60),
            continuation_tokens=(60, 100),
            corpus=Files(patterns=(f"{folder}/novels-de*",)),
            from_language="en",
            to_language="de",
        ),
        train=Train(batch_size=8, learning_rate=6e-3),
        evaluation=Evaluation(times=12, prompts=64, prompt_tokens=24, generate_tokens=32),
    )
