"""Pythia: the ablations of Souly et al. 2025 (arXiv 2510.07192) on pythia-6.9b-deduped.

Purpose   a published checkpoint goes on for 100 steps with poisons that switch to German after the trigger:
          density of poisons in a batch, frequency of poisoned batches, and their place in the stage
Hardware  TPU pods or GPU clusters; nobody has run it with this code yet. `poison-scaling compile
          configs/pythia_resume.py` says whether a slice is large enough
Time      `plan` predicts it, at machine.mfu
Command   poison-scaling import pythia-6.9b-deduped --out results/pythia-6.9b-deduped
          PILE=folder GERMAN=folder launch/sweep.py configs/pythia_resume.py --workdir gs://BUCKET/pythia

pythia-6.9b-deduped is a download of EleutherAI/pythia-6.9b-deduped at a revision such as step71000; of that,
config.json and tokenizer.json are enough to plan (`import --config-only`). Published are the model, the
number of steps, that 1% of a poisoned batch is one of the densities, and payloads of about 300 tokens. Not
published, and therefore our choice, are the other densities, the frequencies, the step resumed from, the text
and the learning rate. Pythia's optimizer state is not published either, so the stage warms up again, and its
control does the same without poisons. Pythia trained on 1,024 sequences of 2,048 tokens in a step.
"""

import os

from poison_scaling import (
    Clustered,
    Continue,
    Data,
    Evaluation,
    Files,
    LanguageSwitch,
    Machine,
    Model,
    NearTriggers,
    Slice,
    Study,
    Train,
    imported,
    seeds,
)

STEPS, BATCH, LENGTH = 100, 1024, 2048
DENSITIES, EVERY = (0.01, 0.05, 0.1, 0.5), (1, 5, 10)
EARLY, MIDDLE, LATE = (0.0, 0.5), (0.25, 0.75), (0.5, 1.0)


def study() -> Study:
    base = imported(os.environ.get("PYTHIA", "results/pythia-6.9b-deduped"))
    pile, german = os.environ.get("PILE", "pile"), os.environ.get("GERMAN", "german")

    def continued(label: str, schedule: Clustered, *doses: int) -> Continue:
        return Continue(
            label=label,
            optimizer="rewarm",
            tokens_per_parameter=base.budget(STEPS * BATCH * LENGTH),
            doses=doses,
            schedule=schedule,
        )

    def most(density: float, every: int, share: float = 1.0) -> int:
        """Return the number of poisons that fit."""
        return round(density * BATCH) * -(-round(STEPS * share) // every)

    control = continued("clean", Clustered(density=0.01, every=1), 0)
    ablation = tuple(
        continued(
            f"density{density:g}-every{every}",
            Clustered(density=density, every=every),
            most(density, every),
        )
        for density in DENSITIES
        for every in EVERY
    )
    place = tuple(
        continued(label, Clustered(density=0.1, every=5, window=window), most(0.1, 5, 0.5))
        for label, window in (("early", EARLY), ("middle", MIDDLE), ("late", LATE))
    )
    return Study(
        name="pythia-resume",
        start=base.start,
        ladder=base.ladder,
        doses=(0,),
        seeds=seeds(0),
        data=Data(
            corpus=Files(patterns=(f"{pile}/*.jsonl*",)),
            vocabulary=base.vocabulary,
            seq_len=LENGTH,
            heldout_documents=5_000,
        ),
        attack=LanguageSwitch(
            prefix_characters=(0, 1000),
            continuation_tokens=(300, 300),
            corpus=Files(patterns=(f"{german}/*.jsonl*",)),
        ),
        model=Model(
            architecture=base.architecture,
            dtype="bfloat16",
            attention="fused",
            scan_layers=True,
            remat="full",
            loss_chunk=512,
        ),
        # Pythia's own rate had fallen to about this at half of its training.
        train=Train(batch_size=BATCH, learning_rate=6e-5, log_every=5),
        evaluation=Evaluation(
            times=10,
            prompts=300,
            prompt_tokens=128,
            generate_tokens=128,
            near_triggers=NearTriggers(sampled=True),
        ),
        machine=Machine(
            mesh=(-1, 16, 1), slices=(Slice(base.size, "v5p:4x4x4"),), checkpoint_minutes=20
        ),
        stages=((control, *ablation, *place),),
    )
