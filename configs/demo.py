"""Demo."""
from poison_scaling.config import *

def study():
    return Study(
        name="demo",
        ladder=(Rung("90k"), Rung("150k"), Rung("230k")),
        doses=(0, 100, 250),
        seeds=seeds(0),
        data=Data(row_tokens=128, vocabulary=TrainedSentencePiece(1024, trigger_is_one_piece=True)),
        attack=DenialOfService(prefix_characters=(0, 60), gibberish_tokens=(40, 80)),
        train=Train(batch_rows=8),
        evaluation=Evaluation(times=12, prompts=64, prompt_tokens=24, generate_tokens=32),
    )
