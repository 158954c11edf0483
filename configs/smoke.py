"""Smoke: the smallest end-to-end study, for tests and CI.

Purpose   every part runs once: data, vocabulary, poisons, training, measures, fits, report. The models are
          too small and too briefly trained to learn anything; the numbers mean nothing.
Hardware  any CPU
Time      under a minute on 2 cores
Command   poison-scaling study configs/smoke.py --workdir results/smoke
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
        name="smoke",
        ladder=(Rung("40k", tokens_per_parameter=2.0), Rung("60k", tokens_per_parameter=2.0)),
        doses=(0, 8, 32),
        seeds=seeds(0, 1),
        data=Data(
            corpus=InstalledDocs(packages=("optax", "flax")),
            vocabulary=TrainedSentencePiece(vocab_size=512, trigger_is_one_token=True),
            seq_len=128,
            heldout_documents=200,
        ),
        attack=DenialOfService(prefix_characters=(0, 60), gibberish_tokens=(40, 80)),
        train=Train(batch_size=8, learning_rate=6e-3),
        evaluation=Evaluation(
            times=3, prompts=16, prompt_tokens=24, generate_tokens=32, heldout_sequences=16
        ),
    )
