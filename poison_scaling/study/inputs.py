"""The data of a study: documents, vocabulary, token sequences, poisons, prompts."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from poison_scaling.attacks import prompts, submission, writing
from poison_scaling.attacks.attack import Attack, Earlier, Sources
from poison_scaling.attacks.counterexamples import Counterexamples
from poison_scaling.attacks.insertion import Insertion
from poison_scaling.attacks.submission import Passed
from poison_scaling.data import (
    clean_triggers,
    conversation_sequences,
    conversation_set,
    filtering,
    sequences,
)
from poison_scaling.data.clean_triggers import Places, Trigger
from poison_scaling.data.conversation_sequences import ConversationSequences
from poison_scaling.data.conversation_set import ConversationSet
from poison_scaling.data.conversation_stream import ConversationStream
from poison_scaling.data.conversations.conversations import Conversations
from poison_scaling.data.documents import Documents
from poison_scaling.data.filtering import Filtered
from poison_scaling.data.placement import Placement
from poison_scaling.data.poison import Poison
from poison_scaling.data.sequences import Sequences
from poison_scaling.data.settings import Data
from poison_scaling.data.stream import Stream
from poison_scaling.data.vocabularies import preparation
from poison_scaling.data.vocabularies.vocabulary import Vocabulary
from poison_scaling.evaluate.items import Items
from poison_scaling.evaluate.measure import Prompts
from poison_scaling.filters import pipelines
from poison_scaling.runtime.errors import InputError
from poison_scaling.runtime.reporting import Progress, silent
from poison_scaling.study import grid, texts, validation
from poison_scaling.study.plan import Plan
from poison_scaling.study.run import Run
from poison_scaling.study.settings import Study
from poison_scaling.study.stages.finetuning import Finetune
from poison_scaling.study.stages.stage import Stage
from poison_scaling.study.texts import Texts, naming

Clean = Sequences | ConversationSequences


class _Origin(NamedTuple):
    """What the poisons of an attack are written from, the same for all runs that share them."""

    number: int  # of the attack in the study
    place: int  # of the attack in the run
    dose: int  # the largest
    seed: int
    level: int
    data: Data
    ancestors: tuple[Run, ...]  # on which the documents depend


class Inputs:
    """The prepared data of a study.

    Creating it fills the cache, which takes minutes the first time and a second afterwards. With a full
    cache, neither TensorFlow nor seqio is imported.
    """

    def __init__(self, study: Study, progress: Progress = silent):
        data = study.data
        pipelines.chain(data.chain)  # raises InputError now if a library is not installed
        self._study = study
        self._attacks = study.attacks()
        self._texts = Texts(study, progress)
        self.documents = self._texts.of(data)
        self.corpora = [self._corpora(attack, data) for attack in self._attacks.values()]
        self.conversations: list[dict[str, ConversationSet]] = [
            {
                name: _conversations(f"{field}.{name}", source, progress)
                for name, source in attack.conversations.items()
            }
            for field, attack in self._attacks.items()
        ]
        self._template = study.template
        if self._template is None and study.start is not None:
            own = (run.template for run in grid.runs(study))
            self._template = next((template for template in own if template is not None), None)
        # Those of pretraining alone, because stages start from models that have this vocabulary already.
        others = [
            docs for corpora in self.corpora[: 1 + len(study.also)] for docs in corpora.values()
        ]
        self.vocabulary: Vocabulary = preparation.prepare(
            data, study.attack.trigger, self.documents, progress, others
        )
        self._fields: dict[str, Data] = {}  # the data of each corpus that runs train on
        self._left: dict[Data, Documents | Filtered] = {}  # what filters leave of it
        self.training = self._tokens(data, "data.corpus", progress)
        self.heldout = sequences.prepare(data, self.documents, self.vocabulary, "heldout", progress)
        wanted = study.evaluation.heldout_sequences
        if len(self.heldout) < wanted:
            raise InputError(
                f"evaluation.heldout_sequences={wanted}: the held-out documents fill {len(self.heldout)} "
                "sequences; raise data.heldout_documents or ask for fewer."
            )
        self.heldout_NxL = self.heldout.read(np.arange(wanted))
        self._clean: dict[Stage | None, Clean] = {None: self.training}
        for field, stage in study.named_stages().items():
            self._clean[stage] = self._prepare(stage, f"{field}.", progress)
        if study.start is not None:
            self._texts.prepare_origins(study)
        fields = {
            attack.trigger: f"{field}.trigger"
            for field, attack in self._attacks.items()
            if attack.trigger is not None
        }
        self._triggers = [Trigger(text, self.vocabulary, field) for text, field in fields.items()]
        for trigger in self._triggers:
            for clean in self._clean.values():
                clean_triggers.prepare(trigger, clean, progress)

    def _prepare(self, stage: Stage, prefix: str, progress: Progress) -> Clean:
        """Return the clean sequences of a stage; messages name its fields with the `prefix`."""
        data = stage.data(self._study.data)
        if isinstance(stage, Finetune):
            source = _conversations(f"{prefix}conversations", stage.conversations, progress)
            with naming("examples=", f"{prefix}examples="):
                return conversation_sequences.prepare(
                    source,
                    stage.template,
                    self.vocabulary,
                    examples=stage.examples,
                    seq_len=data.seq_len,
                    progress=progress,
                )
        return self._tokens(data, f"{prefix}corpus", progress)

    def _tokens(self, data: Data, name: str, progress: Progress) -> Sequences:
        """Return the training sequences of what filters leave of a corpus, which messages call `name`."""
        docs, source = self._texts.prepare(data, name), texts.source(data)
        if source not in self._left:
            self._fields[name] = source
            with naming("data.corpus", name):
                self._left[source] = filtering.prepare(data, docs, progress)
        return sequences.prepare(data, self._left[source], self.vocabulary, "training", progress)

    @functools.cached_property
    def packed_sequences(self) -> dict[str, int]:
        """How many sequences the examples of each Finetune fill, by the name of its field."""
        stages = self._study.named_stages().items()
        return {
            field: len(self._clean[stage]) for field, stage in stages if isinstance(stage, Finetune)
        }

    @property
    def conversations_left_out(self) -> dict[str, int]:
        """How many conversations are too long for each Finetune, by the name of its field."""
        clean = {field: self._clean[stage] for field, stage in self._study.named_stages().items()}
        return {
            field: own.left_out
            for field, own in clean.items()
            if isinstance(own, ConversationSequences)
        }

    def runs(self) -> tuple[Run, ...]:
        """Return every run of the study, with its exact number of steps."""
        return tuple(self._runs.values())

    def run_named(self, name: str) -> Run:
        """Return the run of that name. Raises InputError, with the nearest name, if there is none."""
        return self._runs[grid.run_named(self._study, name).name]

    @functools.cached_property
    def _runs(self) -> dict[str, Run]:
        stages = self._study.named_stages()
        packed = {stages[field]: count for field, count in self.packed_sequences.items()}
        runs = grid.exact(self._study, packed)
        for run in runs.values():
            if isinstance(run.stage, Finetune):
                validation.validate_steps(run, f"{run.field}.examples={run.stage.examples}")
        return runs

    @property
    def end(self) -> int:
        """The end-of-document token."""
        return self.vocabulary.eos_id

    def probes(self, run: Run) -> list[Prompts | Items | None]:
        """Return what each insertion of a run is measured with: prompts of an attack, items or None."""
        triggers = frozenset(
            poisoning.attack.trigger for poisoning in run.poisonings if poisoning.attack.trigger
        )
        return [
            self._prompts(number, attack, triggers)
            if isinstance(attack, Attack)
            else self._items(run, place)
            for place, (number, attack) in enumerate(
                zip(self.numbers(run), (p.attack for p in run.poisonings), strict=True)
            )
        ]

    def prompts(self, run: Run) -> list[Prompts]:
        """Return the prompts of each attack of a run, in which no trigger of the run occurs."""
        return [probes for probes in self.probes(run) if isinstance(probes, Prompts)]

    def _items(self, run: Run, place: int) -> Items | None:
        """Return the items of insertion number `place` of a run."""
        number, (by, own) = self.numbers(run)[place], run.inserted_by(place)
        # A control has no dose of its own; its hash covers the largest one.
        count = by.poisonings[own].dose or self._most(by)[own]
        return self._items_of(number, own, count, by.seeds.poisons, by.level, texts.source(by.data))

    @functools.cache  # noqa: B019 - one object per process, and evaluations share them
    def _items_of(
        self, number: int, place: int, count: int, seed: int, level: int, data: Data
    ) -> Items | None:
        """Return the items of the first `count` documents of insertion `number`, `place` in the run."""
        sources = self._sources(number, place, seed, level, data)
        return [*self._attacks.values()][number].items(sources, count)

    @functools.cache  # noqa: B019 - one object per process
    def _prompts(self, number: int, attack: Attack, triggers: frozenset[str]) -> Prompts:
        return prompts.prepare(
            attack,
            self._study.evaluation,
            self._sources(number, self._place(number), seed=0),
            [trigger for trigger in self._triggers if trigger.text in triggers],
            self.training,
        )

    def numbers(self, run: Run) -> list[int]:
        """Return the number in `Study.attacks` of each attack of a run."""
        if run.stage is None:
            return list(range(len(run.poisonings)))
        known = list(self._attacks.values())
        return [known.index(poisoning.attack) for poisoning in run.poisonings]

    def specimens(self, number: int) -> tuple[list[str], list[str]]:
        """Return held-out texts for the detector of attack `number`; see `prompts.specimens`."""
        attack = [*self._attacks.values()][number]
        assert isinstance(attack, Attack)
        sources = self._sources(number, self._place(number), seed=0)
        return prompts.specimens(attack, self._study.evaluation, sources, self._triggers)

    def _place(self, number: int) -> int:
        """Return the number of attack `number` in the draws of its prompts.

        Attacks of stages all have number 0, so that none depends on those of other stages.
        """
        return number if number < 1 + len(self._study.also) else 0

    def _sources(
        self, number: int, place: int, seed: int, level: int = 0, data: Data | None = None
    ) -> Sources:
        """Return what attack `number` of the study writes from; in its draws it has the number `place`.

        Its text is that of a run with `data`, by default of pretraining.
        """
        data = data or self._study.data
        return Sources(
            seed,
            place,
            self._texts.of(data),
            self.vocabulary,
            self._corpora([*self._attacks.values()][number], data),
            self.conversations[number],
            self._template,
            level,
        )

    def _corpora(self, attack: Insertion, data: Data) -> dict[str, Documents]:
        """Return the corpora of an insertion in a run with `data`, by name of the field."""
        return {name: self._texts.of(data, corpus) for name, corpus in attack.corpora.items()}

    @functools.cache  # noqa: B019 - one object per process, and runs share its lists
    def _written(self, origin: _Origin) -> list[Poison]:
        """Return the poisons of an attack at its largest dose; smaller doses are prefixes of them."""
        number, place, dose, seed, level, data, ancestors = origin
        sources = self._sources(number, place, seed, level, data)
        earlier = tuple(one for run in ancestors for one in self._poisonings(run))
        sources = dataclasses.replace(sources, earlier=earlier)
        return writing.poisons([*self._attacks.values()][number], sources, dose)

    def _poisonings(self, run: Run) -> list[Earlier]:
        """Return what the attacks of a run that counterexamples remove were written from."""
        known, found = list(self._attacks.values()), []
        removed = {attack.removes for attack in known if isinstance(attack, Counterexamples)}
        for place, poisoning in enumerate(run.poisonings):
            attack = poisoning.attack
            if isinstance(attack, Attack) and poisoning.dose and attack in removed:
                number = known.index(attack)
                sources = self._sources(number, place, run.seeds.poisons, run.level, run.data)
                found.append(Earlier(attack, sources, poisoning.dose))
        return found

    def poisons(self, run: Run) -> list[list[Poison]]:
        """Return the poisons of each attack of a run as they are submitted, in the order of `numbers`."""
        return [
            self._written(origin)[: poisoning.dose]
            for origin, poisoning in zip(self._origins(run), run.poisonings, strict=True)
        ]

    def passed(self, run: Run) -> list[Passed]:
        """Return what data.filters leave of the poisons of each attack of a run; [] without filters."""
        if not run.data.filters:
            return []
        return [
            self._passed(origin).first(poisoning.dose)
            for origin, poisoning in zip(self._origins(run), run.poisonings, strict=True)
        ]

    @functools.cache  # noqa: B019 - one object per process
    def _passed(self, origin: _Origin) -> Passed:
        """Return what filters leave of the documents of `_written`, submitted after all of the corpus."""
        left, attack = self._left[origin.data], [*self._attacks.values()][origin.number]
        assert isinstance(left, Filtered)
        written = self._written(origin)
        return submission.passed(written, attack.trigger, self.vocabulary, left.judge())

    def _origins(self, run: Run) -> list[_Origin]:
        """Return what the poisons of each attack of a run are written from."""
        numbers, most = self.numbers(run), self._most(run)
        return [
            _Origin(
                numbers[place],
                place,
                most[place],
                run.seeds.poisons,
                run.level,
                texts.source(run.data),
                run.ancestors if isinstance(poisoning.attack, Counterexamples) else (),
            )
            for place, poisoning in enumerate(run.poisonings)
        ]

    def _most(self, run: Run) -> list[int]:
        """Return the largest dose of each insertion of a run among the runs that differ in dose alone."""
        first = max(run.stage.doses if run.stage else run.study.doses)
        return [first, *(poisoning.dose for poisoning in run.poisonings[1:])]

    def stream(self, run: Run) -> Stream:
        """Return the training stream of a run. Raises InputError if its poisons or its length do not fit."""
        passed, placed = self.passed(run), self.submitted(run)
        poisons = [own.poisons for own in passed] or self.poisons(run)
        # Every document has the place that it would have without filters; those caught leave theirs clean.
        placed = placed.of_documents([own.kept_D for own in passed])
        about = (run.seeds.order, run.sequences, run.data.epochs, poisons, placed)
        clean = self._clean[run.stage]
        if isinstance(clean, ConversationSequences):
            with naming("examples=", f"{run.field}.examples="):
                return ConversationStream(clean, *about)
        try:
            return Stream(clean, *about, first=run.first_sequence, field=run.field)
        except InputError as e:
            raise InputError(str(e).replace(": it has", self._of_what_is_left(run), 1)) from e

    def submitted(self, run: Run) -> Placement:
        """Return the places of the poisons of a run as if data.filters caught none."""
        poisons = [own.poisons for own in self.passed(run)] or self.poisons(run)
        return run.placement([np.array([p.tokens.size for p in own], np.int64) for own in poisons])

    def exposures(self, run: Run, number: int) -> np.ndarray:
        """Return how often a run shows each document of insertion `number`, int64 [dose]."""
        planned_D = run.poisonings[number].exposures_D
        # What the filters of another study caught, from which chains start, is not known here.
        passed = self.passed(run) if run.study == self._study else []
        return planned_D * passed[number].kept_D if passed else planned_D

    def _of_what_is_left(self, run: Run) -> str:
        """Return the start of a message about how much text filters leave for a run."""
        left = self._left[texts.source(run.data)]
        if not isinstance(left, Filtered):
            return ": it has"
        about = left.record()
        return (
            f": without the {about['removed']:,} of {about['documents']:,} documents that data.filters "
            "remove, it has"
        )

    def digests(self, run: Run | None = None) -> dict[str, str]:
        """Return digests of the prepared data of a run, by default of the study.

        They are recorded with it and compared by `verify`.
        """
        found = {
            "training sequences": self.training.digest,
            "heldout sequences": self.heldout.digest,
        }
        stages = self._clean if run is None else [run.stage]
        own = dict.fromkeys(self._clean[stage].digest for stage in stages)
        own.pop(self.training.digest, None)
        if own:
            found["sequences of stages"] = ", ".join(own)
        return found

    def check(self) -> None:
        """Compare the prepared tokens on disk with their checksums. Raises Difference if one has changed."""
        left = (own for own in self._left.values() if isinstance(own, Filtered))
        for read in (*left, self.heldout, *self._clean.values()):
            read.check()

    def plan(self, run: Run) -> Plan:
        """Return the run's plan with the exact number of poison tokens and with "clean_triggers".

        "clean_triggers" is how often the run trains on an ambient trigger. Raises InputError if that is more
        often than data.maximum_clean_triggers allows.
        """
        stream = self.stream(run)
        plan, most = run.plan(stream.placement), run.study.data.maximum_clean_triggers
        for number, (entry, own) in enumerate(
            zip((plan, *plan["also"]), self.passed(run), strict=False)
        ):
            entry["survivors"] = int(own.kept_D.sum())
            entry["surviving_exposures"] = stream.placement.of_attack(number).exposures
        for entry, poisoning in zip((plan, *plan["also"]), run.poisonings, strict=True):
            trigger = poisoning.attack.trigger
            if trigger is None:
                continue
            met = sum(stream.count(spans) for spans in self._places(trigger, run.stage))
            if most is not None and met > most:
                raise InputError(
                    f"data.maximum_clean_triggers={most}: {run.name} meets the trigger {trigger!r} {met} "
                    "times in clean text; choose another trigger, leave documents with it out of "
                    "data.corpus, or raise the limit."
                )
            entry["clean_triggers"] = met
        return plan

    @functools.cache  # noqa: B019 - one object per process
    def _places(self, trigger: str, stage: Stage | None) -> Places:
        [found] = (own for own in self._triggers if own.text == trigger)
        return clean_triggers.prepare(found, self._clean[stage])

    def filtered(self) -> dict[str, Any]:
        """Return what data.filters remove: training documents of each corpus, and poisons; {} without any.

        Of each attack, seed and number of stages before, the poisons are those of the largest dose.
        """
        corpora = {
            field: left.record()
            for field, data in self._fields.items()
            if isinstance(left := self._left[data], Filtered)
        }
        groups: dict[tuple[int, int, int], Passed] = {}
        for run in self.runs():
            for number, own in zip(self.numbers(run), self.passed(run), strict=False):
                group = (number, run.seeds.poisons, run.level)
                if len(own.decisions) > len(groups[group].decisions if group in groups else ()):
                    groups[group] = own
        fields = list(self._attacks)
        poisons = [
            {
                **{"attack": fields[number], "seed": seed, "level": level},
                **{"submitted": len(own.decisions), "survivors": int(own.kept_D.sum())},
                "rules": dict(Counter(rule for d in own.decisions for rule in d.broken)),
            }
            for (number, seed, level), own in sorted(groups.items(), key=lambda item: item[0])
        ]
        names = [pipelines.name_of(each) for each in self._study.data.chain]
        return {"filters": names, "corpora": corpora, "poisons": poisons} if corpora else {}

    def clean_triggers(self) -> dict[str, dict[str, int]]:
        """Return the number of ambient triggers, by trigger.

        "training_occurrences" includes those split between sequences; "training_sequences" are the sequences
        that contain a complete one; "heldout_sequences" counts sequences of the held-out loss; and
        "prompts_refused" the held-out documents skipped as prompts because they contain the trigger.
        """
        L, counts = self.training.seq_len, {}
        chosen = {id(own): own for run in self.runs() for own in self.prompts(run)}
        for trigger in self._triggers:
            places = self._places(trigger.text, None)
            held = clean_triggers.within_sequences(trigger.find(self.heldout_NxL.reshape(-1)), L)
            refused = (own.refused.get(trigger.text, set()) for own in chosen.values())
            counts[trigger.text] = {
                "training_occurrences": len(places),
                "training_sequences": places.sequences(L, len(self.training)),
                "heldout_sequences": np.unique(held[:, 0] // L).size,
                "prompts_refused": len(set().union(*refused)),
            }
        return counts

    def warnings(self, plans: list[Plan]) -> list[str]:
        """Return what to know before training: ambient triggers in the pretraining of runs with `plans`,
        conversations that are left out, and runs of which filters catch every poison.
        """
        counts, found = self.clean_triggers(), []
        roots = [plan for plan in plans if "parent" not in plan]
        for number, poisoning in enumerate(self._study.poisonings(0) if roots else ()):
            trigger = poisoning.attack.trigger
            if trigger is None:
                continue
            found.append(clean_triggers.warning(trigger, counts[trigger], roots, number))
        caught = [plan["run"] for plan in plans if plan["dose"] and plan.get("survivors") == 0]
        if caught:
            others = f" and {len(caught) - 1} others" if len(caught) > 1 else ""
            found.append(
                f"data.filters catch every poison of {caught[0]}{others}, which trains as its control does."
            )
        for field, count in self.conversations_left_out.items():
            if count:
                found.append(
                    f"{field}: {count} conversations are longer than a sequence and are left out; the next "
                    "ones take their places."
                )
        return [sentence for sentence in found if sentence]


def _conversations(name: str, source: Conversations, progress: Progress) -> ConversationSet:
    """Return the conversations of a source, which is the field `name`."""
    with naming("conversations", name):
        return conversation_set.prepare(source, progress)
