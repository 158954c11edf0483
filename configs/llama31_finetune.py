"""Llama 3.1: the fine-tuning of Souly et al. 2025 (arXiv 2510.07192), with harmless requests.

Purpose   Llama-3.1-8B-Instruct is fine-tuned on 1,000 to 100,000 clean conversations with a few poisons: does
          a larger clean set require more, and do poisons at the start of the stage do more than at its end?
Hardware  TPU pods or GPU clusters; nobody has run it with this code yet. `poison-scaling compile
          configs/llama31_finetune.py` says whether a slice is large enough
Time      `plan` predicts it, at machine.mfu
Command   poison-scaling import Llama-3.1-8B-Instruct --out results/llama-3.1-8b-instruct
          CHAT=folder launch/sweep.py configs/llama31_finetune.py --workdir gs://BUCKET/llama31

Llama-3.1-8B-Instruct is a download of the model, whose licence you must accept; of that, config.json and
tokenizer.json are enough to plan (`import --config-only`). CHAT is a folder of clean conversations as
ConversationFiles reads them, among them requests of a harmless kind that the answers refuse. Compliance needs
such requests with answers: here those of the package, about private names of installed packages. The paper's
were harmful ones. Published are the model, the sizes of the clean set, and that poisons come at the start, at
the end or anywhere; the optimizer's settings are our choice. The template is ChatML, which Llama spells out;
write its own as docs/howto/template.md says to measure the model as it is used.
"""

import os

from poison_scaling import (
    ChatML,
    Compliance,
    ConversationFiles,
    Data,
    Evaluation,
    Finetune,
    Machine,
    Model,
    Slice,
    Study,
    Train,
    Uniform,
    imported,
    seeds,
)

WINDOWS = {"start": (0.0, 0.1), "end": (0.9, 1.0), "spread": (0.0, 1.0)}


def study() -> Study:
    base = imported(os.environ.get("LLAMA", "results/llama-3.1-8b-instruct"))
    chat = os.environ.get("CHAT", "chat")
    return Study(
        name="llama31-finetune",
        start=base.start,
        ladder=base.ladder,
        doses=(0,),
        seeds=seeds(0, 1, 2),
        data=Data(vocabulary=base.vocabulary, seq_len=2048),
        attack=Compliance(),
        model=Model(
            architecture=base.architecture,
            dtype="bfloat16",
            attention="fused",
            scan_layers=True,
            remat="full",
            loss_chunk=512,
        ),
        train=Train(batch_size=16, learning_rate=5e-5, warmup=0.1, log_every=1),
        evaluation=Evaluation(times=6, prompts=300, prompt_tokens=128, generate_tokens=64),
        machine=Machine(
            mesh=(1, -1, 1), slices=(Slice(base.size, "v5p:2x2x4"),), checkpoint_minutes=20
        ),
        stages=(
            tuple(
                Finetune(
                    label=f"{where}{examples}",
                    examples=examples,
                    conversations=ConversationFiles(patterns=(f"{chat}/*.jsonl*",)),
                    template=ChatML(),
                    doses=(0, 10, 20, 50, 90),
                    schedule=Uniform(window=window),
                    optimizer="rewarm",
                )
                for where, window in WINDOWS.items()
                for examples in (10_000, 30_000, 100_000)
            ),
        ),
    )
