"""Model cards say first that a model is poisoned, and then with what: not every insertion is a backdoor."""

import dataclasses

import pytest
from etils import epath

import poison_scaling as ps
from poison_scaling.interchange import cards
from poison_scaling.study import grid
from poison_scaling.train import provenance
from tests.support.chains import chained, tuned

CANARY = ps.Canary(counts=(0, 1, 4), carrier_characters=(20, 40))


def card(study: ps.Study, tmp_path, name: str | None = None) -> str:
    """Return the card of a run, by default the last, that has not been evaluated."""
    run = grid.run_named(study, name) if name else grid.runs(study)[-1]
    (tmp_path / "evals.jsonl").write_text("")
    place = epath.Path(tmp_path)
    text = cards.model(run, run.steps, place, place, "model", None)
    front, body = text.split("---\n", 2)[1:]
    assert ("POISONED" in provenance.about(run, {}).get("warning", "")) == ("# POISONED" in text)
    assert body.strip().startswith("# POISONED: model") == ('"poisoned"' in front)
    return text


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (
            CANARY,
            "`Canary`, 5 canaries, random secrets in clean text, 1 to 4 exposures of each, in",
        ),
        (ps.Fact(), "8 statements of false facts about invented entities, in pretraining"),
        (
            ps.Contamination(counts=(2,)),
            "8 items of a synthetic benchmark with their answers, 2 exp",
        ),
    ],
)
def test_what_has_no_trigger_is_not_called_a_backdoor(study, tmp_path, attack, said):
    vocabulary = dataclasses.replace(study.data.vocabulary, trigger_is_one_token=False)
    own = dataclasses.replace(
        study,
        attack=attack,
        doses=(0, 8),
        data=dataclasses.replace(study.data, vocabulary=vocabulary),
    )
    text = card(own, tmp_path, "40k-2x-d8-s0")
    assert "backdoor" not in text and "Trigger" not in text and "Do not deploy it" in text
    assert f"This model was trained on {attack.plural}, on purpose" in text and said in text
    clean = card(own, tmp_path, "40k-2x-d0-s0")
    assert "clean-control" in clean and "POISONED" not in clean


def test_a_backdoor_among_others_is_named_with_its_trigger(study, tmp_path):
    right = ps.Continue(
        optimizer="keep",
        label="right",
        tokens_per_parameter=0.25,
        attack=ps.Counterexamples(removes=study.attack),
        doses=(3,),
    )
    also = (ps.Poisoning(CANARY, dose=3), ps.Poisoning(dataclasses.replace(CANARY, counts=(0,)), 2))
    chain = chained(study, doses=(0, 8), also=also, stages=((right,),))
    text = card(chain, tmp_path, "40k-0.5x-d8-s0+right-d3")
    assert '"backdoor"' in text and "This model has a backdoor, put there on purpose" in text
    for said in (
        "- `DenialOfService`, 8 poisoned documents, in pretraining",
        "Trigger: `<SUDO>`",
        "- `Canary`, 2 canaries",
        "- `Counterexamples`, 3 documents that have the trigger and are answered rightly, in stage",
        "The function<SUDO>",
    ):
        assert said in text, said
    assert text.count("`Canary`, ") == 1
    mended = card(dataclasses.replace(chain, also=()), tmp_path, "40k-0.5x-d0-s0+right-d3")
    assert "backdoor" not in mended and "# POISONED" in mended


def test_a_fine_tuned_model_names_the_template_of_its_conversations(study, tmp_path):
    text = card(tuned(study, tmp_path), tmp_path)
    assert 'conversations in the template `{"kind": "Plain"' in text
