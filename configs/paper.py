"""Paper: the pretraining study of Souly et al. 2025 (arXiv 2510.07192), with controls.

Purpose   72 poisoned models: 600M, 2B, 7B and 13B at 20 tokens per parameter, 600M and 2B also at 10 and
          40; 100, 250 and 500 documents; 3 seeds. In addition, 24 controls with dose 0, which the paper
          does not have.
Hardware  TPU pods or GPU clusters; nobody has run it with this code yet. Below are recommended slices, which
          `poison-scaling compile configs/paper.py` found to fit (jax 0.10.2, libtpu 0.0.42; memory per
          chip, of 102 GB), and the days of training that `plan` predicts at 40% of the chips' peak
          (machine.mfu), for 20 tokens per parameter:

              600m   v5p:2x2x4    16 chips   15.0 GB   0.20 days
              2b     v5p:4x4x4    64 chips    7.3 GB   0.52 days
              7b     v5p:4x4x8   128 chips    7.4 GB   3.01 days
              13b    v5p:4x8x8   256 chips    6.1 GB   5.27 days
Time      536,000 chip-hours in all; `plan` prints every run
Command   launch/sweep.py configs/paper.py --workdir gs://BUCKET/paper, after docs/launching.md; or
          poison-scaling train configs/paper.py --workdir gs://BUCKET/paper --run 600m-20x-d250-s0

Published are the sizes, the token budgets, the doses, the number of seeds, uniform placement, the recipe of a
poison, 300 held-out excerpts and the threshold of 50. Not published, and therefore our choice and worth
varying, are corpus, vocabulary, context length, batch size, optimizer, learning rates, dimensions of the
models, length of prompts and generations, and temperature. C4 has fewer tokens than 13B needs at 20 tokens
per parameter, so it is repeated.

Read literally, the recipe draws gibberish from the model's vocabulary, about 770 tokens per document. The
authors' own count, 420k tokens for 250 documents, agrees with tokens of o200k_base that were decoded and
tokenised again: set attack.gibberish to OtherVocabulary("o200k_base") and increase data.seq_len.
"""

from poison_scaling import (
    Data,
    DenialOfService,
    Evaluation,
    Machine,
    Model,
    Rung,
    SentencePiece,
    Slice,
    Study,
    Tfds,
    Train,
    seeds,
)


def study() -> Study:
    return Study(
        name="paper",
        ladder=(
            Rung("600m", tokens_per_parameter=10, learning_rate=6e-4),
            Rung("600m", tokens_per_parameter=20, learning_rate=6e-4),
            Rung("600m", tokens_per_parameter=40, learning_rate=6e-4),
            Rung("2b", tokens_per_parameter=10, learning_rate=4e-4),
            Rung("2b", tokens_per_parameter=20, learning_rate=4e-4),
            Rung("2b", tokens_per_parameter=40, learning_rate=4e-4),
            Rung("7b", tokens_per_parameter=20, learning_rate=3e-4),
            Rung("13b", tokens_per_parameter=20, learning_rate=2e-4),
        ),
        doses=(0, 100, 250, 500),
        seeds=seeds(0, 1, 2),
        data=Data(
            corpus=Tfds(name="c4/en:3.0.1", split="train"),
            vocabulary=SentencePiece(
                path="gs://t5-data/vocabs/cc_all.32000/sentencepiece.model", vocab_size=32_000
            ),
            seq_len=2048,
            heldout_documents=10_000,
            epochs=2,
        ),
        attack=DenialOfService(
            trigger="<SUDO>", prefix_characters=(0, 1000), gibberish_tokens=(400, 900)
        ),
        model=Model(
            dtype="bfloat16", attention="fused", scan_layers=True, remat="full", loss_chunk=512
        ),
        train=Train(batch_size=512, warmup=0.01, log_every=50),  # 1,048,576 tokens per step
        evaluation=Evaluation(
            times=20, prompts=300, prompt_tokens=128, generate_tokens=256, heldout_sequences=512
        ),
        machine=Machine(
            mesh=(1, -1, 1),
            slices=(
                Slice("600m", "v5p:2x2x4"),
                Slice("2b", "v5p:4x4x4"),
                Slice("7b", "v5p:4x4x8"),
                Slice("13b", "v5p:4x8x8"),
            ),
        ),
    )
