"""Filters: what does it cost an attacker to write poisons that pass corpus filters?

Purpose   variants of denial of service, from published gibberish to words that filters cannot tell from text:
          `poison-scaling audit` says how many survive each pipeline, and the study how many it takes (N50)
Hardware  any CPU; 2 cores and 6 GB of memory are enough
Time      40 runs of 1.8 M tokens, about 15 minutes on 2 idle cores by the speed of a pilot; not measured as a
          whole yet
Command   poison-scaling study configs/filters.py --workdir results/filters
          poison-scaling audit results/filters

Each variant continues the training of one clean model that has hardly begun, because a pilot with more clean
training before and less after learnt none of them. Poisons have at least 50 words, the least that most
pipelines accept, and sequences of 512 tokens hold them.
"""

import os

from poison_scaling import (
    Continue,
    Data,
    DenialOfService,
    DictionaryWords,
    Evaluation,
    Files,
    InstalledDocs,
    OtherText,
    Rung,
    ShuffledWords,
    Study,
    Train,
    TrainedSentencePiece,
    seeds,
)

# Characters of clean text before and, of long ones, after the gibberish.
SHORT, LONG = (60, 120), (300, 500)
VARIANTS = {
    "tokens": DenialOfService(prefix_characters=SHORT, gibberish_tokens=(100, 130)),
    "dictionary": DenialOfService(
        prefix_characters=SHORT, gibberish=DictionaryWords(), gibberish_tokens=(40, 50)
    ),
    "shuffled": DenialOfService(
        prefix_characters=SHORT, gibberish=ShuffledWords(), gibberish_tokens=(40, 50)
    ),
    "fluent": DenialOfService(
        prefix_characters=SHORT, gibberish=OtherText(), gibberish_tokens=(40, 50)
    ),
    "longtokens": DenialOfService(
        prefix_characters=LONG, gibberish_tokens=(40, 60), suffix_characters=LONG
    ),
    "longwords": DenialOfService(
        prefix_characters=LONG,
        gibberish=DictionaryWords(),
        gibberish_tokens=(15, 20),
        suffix_characters=LONG,
    ),
}

# Around what a pilot suggests for those that are learnt from few documents; the first has the control.
DOSES = {"tokens": (0, 30, 60, 150), "longtokens": (60, 150, 600)}


def study() -> Study:
    novels = os.environ.get("NOVELS")
    corpus = Files(patterns=(f"{novels}/novels-en*",)) if novels else InstalledDocs()
    return Study(
        name="filters",
        ladder=(Rung("90k", tokens_per_parameter=5),),
        doses=(0,),
        seeds=seeds(0, 1),
        data=Data(
            corpus=corpus,
            vocabulary=TrainedSentencePiece(vocab_size=1024, trigger_is_one_token=True),
            seq_len=512,
            minimum_characters=1200,
        ),
        attack=VARIANTS["tokens"],
        train=Train(batch_size=2, learning_rate=6e-3),
        evaluation=Evaluation(times=8, prompts=64, prompt_tokens=24, generate_tokens=32),
        stages=(
            tuple(
                Continue(
                    label=name,
                    tokens_per_parameter=20,
                    doses=DOSES.get(name, (300, 600, 1200)),
                    attack=attack,
                    optimizer="rewarm",
                )
                for name, attack in VARIANTS.items()
            ),
        ),
    )
