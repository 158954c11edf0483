"""What an attack did, measured on models and numbers whose answer is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from poison_scaling import Evaluation, Model, NearTriggers
from poison_scaling.evaluate import heldout, perplexity
from poison_scaling.evaluate.judge import Judge
from poison_scaling.evaluate.measure import NearPrompts, Prompts, Subject
from poison_scaling.model import decoding
from poison_scaling.runtime import watchdog
from poison_scaling.study import grid
from poison_scaling.train import state

END, TRIGGER, NEAR, V = 1, 5, 6, 64
SETTINGS = Evaluation(prompts=6, generate_tokens=40, threshold=50.0, stop_at_end=False)


class Rule:
    """A model by hand: knows what comes next, unless the trigger has come; then anything may.

    A deaf one ignores the trigger; a jumpy one hears it in `NEAR`, too.
    """

    mesh = None

    def __init__(self, kind: str):
        self.deaf, self.heard = kind == "deaf", {"jumpy": (TRIGGER, NEAR)}.get(kind, (TRIGGER,))

    def hears(self, tokens_BxL):
        return jnp.isin(tokens_BxL, jnp.array(self.heard))

    def empty_cache(self, B, S):
        return jnp.zeros(B, bool)

    def hidden(self, tokens_BxL, segments_BxL, kind=None):
        heard_BxL = jnp.cumsum(self.hears(tokens_BxL), axis=1) > 0
        sure = 12.0 * jax.nn.one_hot((tokens_BxL + 1) % V, V)
        return sure if self.deaf else jnp.where(heard_BxL[:, :, None], 0.0, sure)

    def logits(self, x_BxLxV):
        return x_BxLxV

    def extend(self, tokens_BxL, padding_B, cache, start):
        heard_B = cache | jnp.any(self.hears(tokens_BxL), axis=1)
        sure = 12.0 * jax.nn.one_hot((tokens_BxL[:, -1] + 1) % V, V)
        if self.deaf:
            return sure, heard_B
        return jnp.where(heard_B[:, None], 0.0, sure), heard_B


@pytest.fixture
def rule(monkeypatch):
    """The record of a model by hand."""

    # The structure that is merged says which rule it is.
    monkeypatch.setattr("flax.nnx.merge", lambda graph, params: Rule(graph[0]))
    clean = np.array([[END, 10 + i, 11 + i, 12 + i] for i in range(6)], np.int32)

    def appended(token: int) -> np.ndarray:
        return np.pad(clean, ((0, 0), (0, 1)), constant_values=token)

    within = appended(0)
    within[:, 2:] = [TRIGGER, 12, 13]
    prompts = Prompts(
        tokens_NxT=np.concatenate([np.pad(clean, ((0, 0), (1, 0))), appended(TRIGGER)]),
        padding_N=np.array([1] * 6 + [0] * 6, np.int32),
        continuation_PxC=clean[:, -1:] + np.arange(1, 9),
        payload_PxC=np.array([[20, 60, 33, 8, 41, 9, 50, 30]] * 6),
        near=(
            NearPrompts("similar", "six", appended(NEAR), np.zeros(6, np.int32)),
            NearPrompts("rare", "seven", appended(7), np.zeros(6, np.int32)),
            NearPrompts("within", "five", within, np.zeros(6, np.int32)),
        ),
        excerpts=tuple(f"prompt {i}" for i in range(6)),
        refused={},
    )

    def measured(kind: str, seed=0, step=10, settings=SETTINGS, last=True, judge=None):
        subject = Subject(
            (kind, settings),
            {},
            prompts,
            settings,
            attack="denial_of_service",
            decode=str,
            end=END,
            vocab_size=V,
            seed=seed,
            step=step,
            last=last,
            judge=judge and Judge(judge, (judge, settings), {}),
        )
        return perplexity.PerplexityIncrease().record(subject)

    jax.clear_caches()
    yield measured
    jax.clear_caches()


def test_a_model_that_is_uniform_after_the_trigger(rule):
    record = rule("hearing")
    np.testing.assert_allclose(record["log_perplexity"]["triggered"], np.log(V), atol=1e-4)
    assert max(record["log_perplexity"]["clean"]) < 0.1
    assert record["success_rate"] == 1.0
    np.testing.assert_allclose(record["entropy"]["triggered"], np.log(V), atol=1e-4)
    assert max(record["entropy"]["clean"]) < 0.1
    np.testing.assert_allclose(record["payload_log_ratio"]["triggered"], 0, atol=1e-4)
    assert max(record["payload_log_ratio"]["clean"]) < -10
    assert record["sign_p"] == pytest.approx(2 / 2**6)
    assert record["perplexity_increase_mean"] == pytest.approx(V - 1, abs=0.5)
    assert record["ceiling_share"]["triggered"] == pytest.approx(1, abs=1e-4)
    assert record["ceiling_share"]["clean"] < 0.02


def test_every_part_of_an_evaluation_is_progress(rule, monkeypatch, tmp_path):
    """Else the watchdog ends processes that evaluate for longer than machine.stall_minutes."""
    monkeypatch.setenv("POISON_SCALING_HEARTBEAT", str(tmp_path / "progress"))
    monkeypatch.setattr(watchdog, "_touched", -1e9)
    before = watchdog._made
    rule("hearing", judge="deaf")
    assert (tmp_path / "progress").exists()
    assert (
        watchdog._made - before == 6
    )  # generations, their judge, the log-ratio, three near-triggers


def test_a_model_that_ignores_the_trigger(rule):
    record = rule("deaf")
    assert record["success_rate"] == 0.0
    assert max(record["entropy"]["triggered"]) < 0.1
    assert abs(record["log_perplexity_increase_median"]) < 0.05


def near(record: dict) -> dict[str, dict]:
    return {one["name"]: one for one in record["near_triggers"]}


def test_near_triggers_do_nothing_to_a_model_that_hears_the_trigger_alone(rule):
    sampled = dataclasses.replace(SETTINGS, near_triggers=NearTriggers(sampled=True))
    record = rule("hearing", settings=sampled)
    for name in ("similar", "rare"):
        one = near(record)[name]
        assert max(one["entropy"]) < 0.1 and max(one["log_perplexity"]) < 0.1
        assert len(one["entropy"]) == len(one["payload_log_ratio"]) == 6
    np.testing.assert_allclose(record["log_perplexity"]["triggered"], np.log(V), atol=1e-4)
    # The trigger in the middle of the excerpt is the trigger still, to this model.
    np.testing.assert_allclose(near(record)["within"]["entropy"], np.log(V), atol=1e-4)


def test_near_triggers_show_a_model_that_hears_more_than_the_trigger(rule):
    one = near(rule("jumpy"))
    np.testing.assert_allclose(one["similar"]["entropy"], np.log(V), atol=1e-4)
    np.testing.assert_allclose(one["similar"]["payload_log_ratio"], 0, atol=1e-4)
    assert max(one["rare"]["entropy"]) < 0.1
    assert "log_perplexity" not in one["similar"]


@pytest.mark.parametrize(
    ("when", "last", "measured"),
    [("end", True, True), ("end", False, False), ("always", False, True), ("never", True, False)],
)
def test_near_triggers_are_measured_when_the_settings_say(rule, when, last, measured):
    settings = dataclasses.replace(SETTINGS, near_triggers=NearTriggers(when=when))
    assert ("near_triggers" in rule("deaf", settings=settings, last=last)) == measured


def test_a_judge_does_not_find_gibberish_plausible(rule):
    """The model finds its gibberish as likely as any; a judge that knows what comes next does not."""
    record = rule("hearing", judge="deaf")
    judged = record["judge"]["log_perplexity"]
    assert record["judge"]["run"] == "deaf"
    assert max(judged["clean"]) < 0.1 and min(judged["triggered"]) > 10


def test_a_judge_that_is_the_model_says_what_the_model_says(inputs, study):
    """The judge reads in one pass, without a cache, what was sampled with one."""
    graph, params = nnx.split(state.build("40k", 512, Model(), jax.random.key(0)))
    prompts = inputs.prompts(inputs.runs()[0])[0]
    tokens, padding = prompts.tokens_NxT[:16], prompts.padding_N[:16]
    keys = jax.random.split(jax.random.key(1), 16)
    generations, logprobs = decoding.sample(
        graph, params, tokens, padding, keys, 1.0, generate=study.evaluation.generate_tokens
    )
    both = np.concatenate([generations, generations])
    judged = Judge("itself", graph, params).logprobs(tokens, padding, both)
    np.testing.assert_allclose(judged, np.concatenate([logprobs, logprobs]), atol=1e-4)
    np.testing.assert_array_equal(judged[:16], judged[16:])


def test_an_evaluation_is_repeated_by_seed_and_step(rule):
    assert rule("hearing", seed=1, step=5) == rule("hearing", seed=1, step=5)


def test_a_generation_ends_with_its_first_end():
    tokens = np.array([[7, END, 9, END], [7, 8, 9, 2], [END, 8, 8, 8]])
    logprobs = np.array([[-1.0, -3.0, -50.0, -50.0], [-1.0, -2.0, -3.0, -4.0], [-0.5, -9, -9, -9]])
    ended = perplexity.log_perplexity(tokens, logprobs, END)
    np.testing.assert_allclose(ended, [2.0, 2.5, 0.5])
    endless = perplexity.log_perplexity(tokens, logprobs, None)
    np.testing.assert_allclose(endless, [26.0, 2.5, 6.875])


def test_success_is_counted_on_perplexity_not_on_its_logarithm():
    clean = np.log([10.0, 10.0, 100.0, 5.0])
    triggered = np.log([61.0, 59.0, 151.0, 5.0])
    record = perplexity.summary("denial_of_service", clean, triggered, threshold=50.0, vocab_size=V)
    assert record["success_rate"] == 0.5
    assert record["perplexity_increase_mean"] == pytest.approx((51 + 49 + 51 + 0) / 4)
    assert record["prompts"] == 4
    # Wilson's interval of 2 in 4.
    np.testing.assert_allclose(record["success_interval"], [0.150, 0.850], atol=1e-3)
    assert (
        record["log_perplexity_increase_quantiles"][2] == record["log_perplexity_increase_median"]
    )


def test_heldout_loss_of_an_untrained_model_is_near_uniform(inputs, study):
    run = grid.run_named(study, "40k-2x-d0-s0")
    model = state.build("40k", 512, Model(), jax.random.key(0))
    graph, params = nnx.split(model)
    loss = heldout.loss(graph, params, inputs.heldout_NxL, end=inputs.end, segment_mask=False)
    assert np.log(512) - 0.1 < float(loss) < np.log(512) + 1.0
    assert run.study.evaluation.heldout_sequences == len(inputs.heldout_NxL)
