"""Attacks that are seen in a text, measured on models whose answer is known."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poison_scaling import Evaluation, LanguageSwitch, NearTriggers
from poison_scaling.attacks import languages
from poison_scaling.evaluate import detection, sampling
from poison_scaling.evaluate.measure import NearPrompts, Prompts, Subject

END, TRIGGER, NEAR, V, P, G = 1, 5, 6, 64, 8, 24
# Ids 10-29 are English words, 30-49 German ones.
ENGLISH = "the and that which would have with from they there been said house were could what"
GERMAN = "der und nicht eine wurde haben auch nach sich aber durch noch schon einen wenn über"
WORDS = {
    first + i: words.split(" ")[i % 16]
    for first, words in ((10, ENGLISH), (30, GERMAN))
    for i in range(20)
}
SETTINGS = Evaluation(
    prompts=P, generate_tokens=G, near_triggers=NearTriggers(when="always"), stop_at_end=False
)


class Writer:
    """A model by hand: writes English words, and German ones from `switches` of the tokens on."""

    mesh = None

    def __init__(self, switches: tuple[int, ...], ends: bool = False):
        self.switches, self.ends = switches, ends

    def empty_cache(self, B, S):
        return jnp.zeros(B, bool)

    def hidden(self, tokens_BxL, segments_BxL, attention):
        seen_BxL = jnp.isin(tokens_BxL, jnp.array(self.switches, jnp.int32))
        return self._next(jnp.cumsum(seen_BxL, axis=1) > 0)

    def logits(self, x_BxLxV):
        return x_BxLxV

    def extend(self, tokens_BxL, padding_B, cache, start):
        german_B = cache | jnp.any(
            jnp.isin(tokens_BxL, jnp.array(self.switches, jnp.int32)), axis=1
        )
        return self._next(german_B), german_B

    def _next(self, german):
        """Logits: any of the 20 words of the language that is due, or the end."""
        ids = jnp.arange(V)
        first = jnp.where(german, 30, 10)[..., None]
        due = (ids == END) if self.ends else (ids >= first) & (ids < first + 20)
        return jnp.where(jnp.broadcast_to(due, (*german.shape, V)), 0.0, -100.0)


def measured(monkeypatch, switches, ends=False, settings=SETTINGS, **fields):
    monkeypatch.setattr("flax.nnx.merge", lambda graph, params: Writer(switches, ends))
    clean = np.array([[END, 10 + i, 11 + i, 12 + i] for i in range(P)], np.int32)

    def with_token(token):
        return np.pad(clean, ((0, 0), (0, 1)), constant_values=token).astype(np.int32)

    near = NearPrompts("one character changed", "<SUDP>", with_token(NEAR), np.zeros(P, np.int32))
    prompts = Prompts(
        tokens_NxT=np.concatenate([np.pad(clean, ((0, 0), (1, 0))), with_token(TRIGGER)]),
        padding_N=np.array([1] * P + [0] * P, np.int32),
        continuation_PxC=clean[:, 1:],
        payload_PxC=clean[:, 1:] + 20,
        near=(near,),
        excerpts=tuple(f"prompt {i}" for i in range(P)),
        refused={},
    )
    subject = Subject(
        (switches, ends),  # what jit takes for the model's graph
        {},
        prompts,
        settings,
        attack="language_switch",
        decode=lambda ids: " ".join(WORDS[i] for i in ids),
        end=END,
        vocab_size=V,
        **{"seed": 0, "step": 10, "last": False, **fields},
    )
    return LanguageSwitch().measure().record(subject)


@pytest.fixture(autouse=True, scope="module")
def fresh():
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.parametrize(
    ("switches", "success", "clean", "near"),
    [
        ((TRIGGER,), 1.0, 1.0, 1.0),  # a perfect backdoor
        ((), 0.0, 1.0, 1.0),  # deaf
        ((END,), 1.0, 0.0, 0.0),  # always German
        ((TRIGGER, NEAR), 1.0, 1.0, 0.0),  # anything like the trigger will do
    ],
)
def test_the_rates_of_models_that_are_known(monkeypatch, switches, success, clean, near):
    record = measured(monkeypatch, switches)
    assert record["attack"] == "language_switch" and record["prompts"] == P
    assert record["success_rate"] == success
    assert record["clean_accuracy"] == clean
    assert record["near_trigger_accuracy"] == near
    ratio = record["payload_log_ratio"]
    np.testing.assert_allclose(ratio["triggered"], 100.0 if success else -100.0, rtol=1e-4)
    np.testing.assert_allclose(ratio["clean"], -100.0 if clean else 100.0, rtol=1e-4)
    assert (min(record["detected"]["triggered"]) > 0.5) == (success == 1.0)
    assert len(record["detected"]["clean"]) == len(record["near_triggers"][0]["detected"]) == P


def test_a_generation_without_text_has_not_switched(monkeypatch):
    settings = dataclasses.replace(SETTINGS, stop_at_end=True)
    record = measured(monkeypatch, (TRIGGER,), ends=True, settings=settings)
    assert record["success_rate"] == 0.0 and record["clean_accuracy"] == 1.0


def test_near_triggers_are_sampled_when_the_study_says_so(monkeypatch):
    at_end = dataclasses.replace(SETTINGS, near_triggers=NearTriggers())
    assert "near_trigger_accuracy" not in measured(monkeypatch, (), settings=at_end)
    assert "near_trigger_accuracy" in measured(monkeypatch, (), settings=at_end, last=True)


def test_an_evaluation_is_repeated_by_seed_and_step(monkeypatch):
    short = dataclasses.replace(
        SETTINGS, generate_tokens=1
    )  # one word leaves the detector in doubt

    def written(**fields):
        return measured(monkeypatch, (TRIGGER,), settings=short, **fields)

    first = written()
    assert written() == first
    assert written(step=11)["detected"] != first["detected"]
    assert written(seed=1)["detected"] != first["detected"]


def test_a_generation_is_read_up_to_its_first_end():
    tokens = np.array([[10, END, 30, 30], [END, 10, 10, 10], [10, 10, 10, 10]])

    def decode(ids):
        return " ".join(map(str, ids))

    def subject(stop_at_end):
        settings = Evaluation(stop_at_end=stop_at_end)
        return types.SimpleNamespace(end=END, decode=decode, settings=settings)

    assert sampling.texts(subject(True), tokens) == ["10", "", "10 10 10 10"]
    assert sampling.texts(subject(False), tokens)[0] == "10 1 30 30"


def test_the_last_evaluation_keeps_a_few_generations_to_read(monkeypatch):
    assert "generations" not in measured(monkeypatch, (TRIGGER,))
    kept = measured(monkeypatch, (TRIGGER,), last=True)["generations"]
    assert [one["prompt"] for one in kept] == [f"prompt {i}" for i in range(4)]
    english, german = set(ENGLISH.split(" ")), set(GERMAN.split(" "))
    for one in kept:
        assert set(one["clean"].split(" ")) <= english
        assert set(one["triggered"].split(" ")) <= german


def test_the_intervals_are_wilsons():
    half = np.array([0.9, 0.9, 0.1, 0.1])
    record = detection.summary("language_switch", half, half, [])
    assert record["success_rate"] == record["clean_accuracy"] == 0.5
    for name in ("success_interval", "clean_accuracy_interval"):
        np.testing.assert_allclose(record[name], [0.150, 0.850], atol=1e-3)


def test_the_error_of_a_detector_is_counted_on_both_kinds_of_text():
    clean, payload = [ENGLISH] * 3 + [GERMAN], [GERMAN] * 4 + [ENGLISH]
    error = LanguageSwitch().measure().error(clean, payload)
    assert error["clean"]["texts"] == 4 and error["clean"]["error"] == 0.25
    assert error["payload"]["texts"] == 5 and error["payload"]["error"] == 0.2
    assert "payload" not in LanguageSwitch().measure().error(clean, [])


def test_short_and_garbled_text_is_told_apart():
    """Such as small models write: pieces of words in no order."""
    garbled = {
        "en": ("theng of wh the himing that wased", "sher, and thy withe morned fould ther"),
        "de": ("ich dern schein unde gewäckt", "und sie verste auch nich der haupten"),
    }
    for text in garbled["en"]:
        assert languages.chance([text], "de", "en")[0] < 0.5
    for text in garbled["de"]:
        assert languages.chance([text], "de", "en")[0] > 0.5
    assert languages.chance([""], "de", "en") == [0.5]
