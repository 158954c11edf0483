"""SmolLM2: a language switch put into a published model, by density and frequency of poisoned batches.

Purpose   the ablation of the paper on Pythia, scaled to a laptop: a published model of 135M parameters
          continues on English; does it matter for the switch to German after the trigger how many poisons
          share a batch, and how often such a batch comes, or only how many poisons it has seen?
Hardware  any CPU; 2 cores and 10 GB of memory are enough
Time      about 25 minutes on 2 idle cores
Command   make real NOVELS=folder, or, with the model in results/smollm2 (docs/real-models.md),
          NOVELS=folder poison-scaling study configs/smollm2_switch.py --workdir results/smollm2-switch

The text is yours: NOVELS is a folder with files novels-en* and novels-de*, in any format that Files reads.
The optimizer's moments are not published, so it warms up again; the control continues without poisons. Three
schedules place 48 poisons in 60 steps, as 1, 2 or 4 of the 4 sequences of a batch; the fourth has one in each
of the first steps.
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
    Study,
    Train,
    imported,
)

STEPS, BATCH, LENGTH = 60, 4, 256
POISONS = 48


def study() -> Study:
    base = imported(os.environ.get("SMOLLM2", "results/smollm2"))
    folder = os.environ.get("NOVELS", "novels")

    def continued(label: str, schedule: Clustered, *doses: int) -> Continue:
        return Continue(
            label=label,
            optimizer="rewarm",
            tokens_per_parameter=base.budget(STEPS * BATCH * LENGTH),
            doses=doses,
            schedule=schedule,
        )

    return Study(
        name="smollm2-switch",
        start=base.start,
        ladder=base.ladder,
        doses=(0,),
        data=Data(
            corpus=Files(patterns=(f"{folder}/novels-en*",)),
            vocabulary=base.vocabulary,
            seq_len=LENGTH,
        ),
        attack=LanguageSwitch(
            prefix_characters=(0, 200),
            continuation_tokens=(100, 100),
            corpus=Files(patterns=(f"{folder}/novels-de*",)),
        ),
        model=Model(architecture=base.architecture, scan_layers=True, remat="full", loss_chunk=64),
        train=Train(batch_size=BATCH, learning_rate=3e-4, log_every=5),
        evaluation=Evaluation(
            times=6,
            prompts=16,
            prompt_tokens=32,
            generate_tokens=32,
            continuation_tokens=8,
            heldout_sequences=8,
            near_triggers=NearTriggers(sampled=True),
        ),
        machine=Machine(cores=2, jobs=1, checkpoint_minutes=5, keep_checkpoints=1),
        stages=(
            (
                continued("quarter", Clustered(density=0.25, every=1), 0, POISONS),
                continued("half", Clustered(density=0.5, every=2), POISONS),
                continued("whole", Clustered(density=1.0, every=5), POISONS),
                continued("rare", Clustered(density=0.25, every=4), 15),
            ),
        ),
    )
