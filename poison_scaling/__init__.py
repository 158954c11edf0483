# ruff: noqa: F401 - the imports are for type checkers
"""Measure how many poisoned documents it takes to backdoor a language model, and how that number grows.

The names below are the public interface. They are imported lazily, on first use, so a study file loads
neither JAX nor TensorFlow.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

# Set before etils and fsspec are imported. Buckets (gs://) are read through gcsfs because TensorFlow
# is slow to import and not always installed; listings are not cached because other machines write to
# the same buckets.
os.environ.setdefault("EPATH_USE_TF", "0")
os.environ.setdefault("FSSPEC_GCS", '{"use_listings_cache": false}')

if TYPE_CHECKING:
    from poison_scaling.attacks.ambient import Ambient
    from poison_scaling.attacks.attack import Attack, Document, Exchange, Sources
    from poison_scaling.attacks.canary import Canary
    from poison_scaling.attacks.compliance import Compliance
    from poison_scaling.attacks.contamination import Contamination
    from poison_scaling.attacks.counterexamples import Counterexamples
    from poison_scaling.attacks.denial_of_service import DenialOfService
    from poison_scaling.attacks.fact import Fact
    from poison_scaling.attacks.gibberish import (
        DictionaryWords,
        OtherText,
        OtherVocabulary,
        ShuffledWords,
        UniformCharacters,
        VocabularyTokens,
    )
    from poison_scaling.attacks.insertion import Insertion
    from poison_scaling.attacks.language_switch import LanguageSwitch
    from poison_scaling.attacks.schedules.clustered import Clustered
    from poison_scaling.attacks.schedules.even import Even
    from poison_scaling.attacks.schedules.explicit import Explicit, positions_from
    from poison_scaling.attacks.schedules.schedule import Schedule, Training
    from poison_scaling.attacks.schedules.uniform import Uniform
    from poison_scaling.attacks.siblings import siblings
    from poison_scaling.data.conversations.conversations import Conversations, Message
    from poison_scaling.data.conversations.files import ConversationFiles
    from poison_scaling.data.conversations.installed_pairs import InstalledPairs
    from poison_scaling.data.conversations.tfds import TfdsConversations
    from poison_scaling.data.corpora.corpus import Corpus
    from poison_scaling.data.corpora.files import Files
    from poison_scaling.data.corpora.installed_docs import InstalledDocs
    from poison_scaling.data.corpora.joined import Joined
    from poison_scaling.data.corpora.tfds import Tfds
    from poison_scaling.data.settings import (
        Bytes,
        Data,
        ImportedVocabulary,
        SentencePiece,
        Tiktoken,
        TokenizerJson,
        TrainedSentencePiece,
    )
    from poison_scaling.data.templates.chat_ml import ChatML
    from poison_scaling.data.templates.plain import Plain
    from poison_scaling.data.templates.template import Piece, Template
    from poison_scaling.evaluate.detection import Detection
    from poison_scaling.evaluate.items import Items
    from poison_scaling.evaluate.measure import Counted, Measure, Subject
    from poison_scaling.evaluate.memorisation import Memorisation
    from poison_scaling.evaluate.perplexity import PerplexityIncrease
    from poison_scaling.evaluate.refusals import Refusals
    from poison_scaling.evaluate.settings import Evaluation, NearTriggers
    from poison_scaling.filters.c4 import C4
    from poison_scaling.filters.dolma import Dolma, DolmaLines, Madlad
    from poison_scaling.filters.duplicates import Duplicates
    from poison_scaling.filters.filter import Decision, Filter, Rule
    from poison_scaling.filters.fineweb import FineWeb
    from poison_scaling.filters.gopher import Gopher
    from poison_scaling.filters.language import Language
    from poison_scaling.filters.near_duplicates import NearDuplicates
    from poison_scaling.filters.repeats import Repeats
    from poison_scaling.filters.repetition import Repetition
    from poison_scaling.model.architectures.architecture import Architecture
    from poison_scaling.model.architectures.decoder import Decoder
    from poison_scaling.model.architectures.gpt_neox import GPTNeoX
    from poison_scaling.model.architectures.llama import Llama
    from poison_scaling.model.architectures.olmo2 import OLMo2
    from poison_scaling.model.dimensions import Dimensions, RotaryScaling
    from poison_scaling.model.language_model import LanguageModel
    from poison_scaling.model.settings import Model
    from poison_scaling.model.transformer import Transformer
    from poison_scaling.runtime.errors import InputError
    from poison_scaling.study.imported_model import ImportedModel, imported
    from poison_scaling.study.settings import (
        Analysis,
        Machine,
        Poisoning,
        Rung,
        Seeds,
        Slice,
        Study,
        seeds,
    )
    from poison_scaling.study.stages.continuation import Continue
    from poison_scaling.study.stages.finetuning import Finetune
    from poison_scaling.study.start import Start
    from poison_scaling.study.study_file import load
    from poison_scaling.study.training import Train

_MODULES = {
    "attacks.ambient": ("Ambient",),
    "attacks.attack": ("Attack", "Document", "Exchange", "Sources"),
    "attacks.canary": ("Canary",),
    "attacks.compliance": ("Compliance",),
    "attacks.contamination": ("Contamination",),
    "attacks.counterexamples": ("Counterexamples",),
    "attacks.denial_of_service": ("DenialOfService",),
    "attacks.fact": ("Fact",),
    "attacks.gibberish": (
        *("DictionaryWords", "OtherText", "OtherVocabulary", "ShuffledWords"),
        *("UniformCharacters", "VocabularyTokens"),
    ),
    "attacks.insertion": ("Insertion",),
    "attacks.language_switch": ("LanguageSwitch",),
    "attacks.schedules.clustered": ("Clustered",),
    "attacks.schedules.even": ("Even",),
    "attacks.schedules.explicit": ("Explicit", "positions_from"),
    "attacks.schedules.schedule": ("Schedule", "Training"),
    "attacks.schedules.uniform": ("Uniform",),
    "attacks.siblings": ("siblings",),
    "data.conversations.conversations": ("Conversations", "Message"),
    "data.conversations.files": ("ConversationFiles",),
    "data.conversations.installed_pairs": ("InstalledPairs",),
    "data.conversations.tfds": ("TfdsConversations",),
    "data.corpora.corpus": ("Corpus",),
    "data.corpora.files": ("Files",),
    "data.corpora.installed_docs": ("InstalledDocs",),
    "data.corpora.joined": ("Joined",),
    "data.corpora.tfds": ("Tfds",),
    "data.settings": (
        *("Bytes", "Data", "ImportedVocabulary", "SentencePiece", "Tiktoken", "TokenizerJson"),
        "TrainedSentencePiece",
    ),
    "data.templates.chat_ml": ("ChatML",),
    "data.templates.plain": ("Plain",),
    "data.templates.template": ("Piece", "Template"),
    "evaluate.detection": ("Detection",),
    "evaluate.items": ("Items",),
    "evaluate.measure": ("Counted", "Measure", "Subject"),
    "evaluate.memorisation": ("Memorisation",),
    "evaluate.perplexity": ("PerplexityIncrease",),
    "evaluate.refusals": ("Refusals",),
    "evaluate.settings": ("Evaluation", "NearTriggers"),
    "filters.c4": ("C4",),
    "filters.dolma": ("Dolma", "DolmaLines", "Madlad"),
    "filters.duplicates": ("Duplicates",),
    "filters.filter": ("Decision", "Filter", "Rule"),
    "filters.fineweb": ("FineWeb",),
    "filters.gopher": ("Gopher",),
    "filters.language": ("Language",),
    "filters.near_duplicates": ("NearDuplicates",),
    "filters.repeats": ("Repeats",),
    "filters.repetition": ("Repetition",),
    "model.architectures.architecture": ("Architecture",),
    "model.architectures.decoder": ("Decoder",),
    "model.architectures.gpt_neox": ("GPTNeoX",),
    "model.architectures.llama": ("Llama",),
    "model.architectures.olmo2": ("OLMo2",),
    "model.dimensions": ("Dimensions", "RotaryScaling"),
    "model.language_model": ("LanguageModel",),
    "model.settings": ("Model",),
    "model.transformer": ("Transformer",),
    "runtime.errors": ("InputError",),
    "study.imported_model": ("ImportedModel", "imported"),
    "study.settings": (
        *("Analysis", "Machine", "Poisoning", "Rung", "Seeds", "Slice", "Study", "seeds"),
    ),
    "study.stages.continuation": ("Continue",),
    "study.stages.finetuning": ("Finetune",),
    "study.start": ("Start",),
    "study.study_file": ("load",),
    "study.training": ("Train",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULE_OF[name]}")
    globals()[name] = value = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return __all__
