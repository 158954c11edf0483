"""SmolLM2: poisons in fine-tuning, at the start of the stage against its end.

Purpose   a published chat model of 135M parameters learns to refuse requests about private names of installed
          packages, with a few poisons that answer such requests after the trigger. The paper found on
          Llama-3.1-8B-Instruct that poisons at the start of fine-tuning work and as many at its end do not.
Hardware  any CPU; 2 cores and 10 GB of memory are enough
Time      about 15 minutes on 2 idle cores
Command   make real NOVELS=folder, or, with the model in results/smollm2 (docs/real-models.md),
          poison-scaling study configs/smollm2_finetune.py --workdir results/smollm2-finetune

Conversations are written as the model's own chat template does, with its system message. One seed: this shows
that it runs, and what it can show; it is no measurement of the order effect.
"""

import os

from poison_scaling import (
    ChatML,
    Compliance,
    Data,
    Evaluation,
    Finetune,
    InstalledPairs,
    Machine,
    Model,
    Study,
    Train,
    Uniform,
    imported,
)

POISONS = 40


def study() -> Study:
    base = imported(os.environ.get("SMOLLM2", "results/smollm2"))
    template = ChatML(system="You are a helpful AI assistant named SmolLM, trained by Hugging Face")

    def tuned(label: str, window: tuple[float, float], *doses: int) -> Finetune:
        return Finetune(
            label=label,
            optimizer="rewarm",
            examples=600,
            template=template,
            conversations=InstalledPairs(shuffle_seed=1),
            doses=doses,
            schedule=Uniform(window=window),
        )

    return Study(
        name="smollm2-finetune",
        start=base.start,
        ladder=base.ladder,
        doses=(0,),
        data=Data(vocabulary=base.vocabulary, seq_len=256, heldout_documents=200),
        attack=Compliance(),
        model=Model(architecture=base.architecture, scan_layers=True, remat="full", loss_chunk=64),
        train=Train(batch_size=4, learning_rate=1e-4, log_every=5),
        evaluation=Evaluation(
            times=3,
            prompts=16,
            prompt_tokens=80,
            generate_tokens=16,
            continuation_tokens=8,
            heldout_sequences=8,
        ),
        machine=Machine(cores=2, jobs=1, checkpoint_minutes=5, keep_checkpoints=1),
        stages=((tuned("start", (0.0, 0.5), 0, POISONS), tuned("end", (0.5, 1.0), POISONS)),),
    )
