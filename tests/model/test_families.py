"""Families of Transformers: their sizes are those published, and what they cannot be is refused."""

import dataclasses
import importlib.util
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import poison_scaling as ps
from poison_scaling.config import serialization
from poison_scaling.model import huggingface, sharding, weights
from poison_scaling.model.family import Family
from poison_scaling.runtime.errors import InputError
from poison_scaling.train import aot

FAMILIES = (ps.Decoder, ps.Llama, ps.GPTNeoX, ps.OLMo2)
SMALL = {
    ps.Llama: ("smollm2-135m", {"width": 24, "layers": 2, "heads": 6, "kv_heads": 2, "mlp": 40}),
    ps.GPTNeoX: ("pythia-14m", {"width": 32, "layers": 2, "heads": 4, "mlp": 40}),
    ps.OLMo2: ("olmo2-1b", {"width": 24, "layers": 2, "heads": 4, "kv_heads": 2, "mlp": 40}),
}


def small(family: type[Family], **fields) -> Family:
    size, dimensions = SMALL[family]
    return family(shape=dataclasses.replace(family().sizes()[size], **{**dimensions, **fields}))


@pytest.mark.parametrize(
    ("family", "vocab_size", "published"),
    [
        # Biderman et al. 2023, table 1: without embeddings.
        *((ps.GPTNeoX, None, {
            "pythia-70m": 18_915_328, "pythia-160m": 85_056_000, "pythia-410m": 302_311_424,
            "pythia-1b": 805_736_448, "pythia-1.4b": 1_208_602_624, "pythia-2.8b": 2_517_652_480,
            "pythia-6.9b": 6_444_163_072, "pythia-12b": 11_327_027_200,
        }),),
        # The number of elements in the safetensors of each on Hugging Face.
        (ps.Llama, 49_152, {
            "smollm2-135m": 134_515_008, "smollm2-360m": 361_821_120,
            "smollm2-1.7b": 1_711_376_384,
        }),
        (ps.Llama, 128_256, {
            "llama-3.2-1b": 1_235_814_400, "llama-3.2-3b": 3_212_749_824,
            "llama-3.1-8b": 8_030_261_248,
        }),
        (ps.Llama, 32_000, {
            "llama-2-7b": 6_738_415_616, "llama-2-13b": 13_015_864_320,
            "mistral-7b": 7_241_732_096,
        }),
        (ps.Llama, 151_936, {"qwen2.5-0.5b": 494_032_768, "qwen2.5-1.5b": 1_543_714_304}),
        (ps.Llama, 152_064, {"qwen2.5-7b": 7_615_616_512}),
        (ps.OLMo2, 100_352, {
            "olmo2-1b": 1_484_916_736, "olmo2-7b": 7_298_617_344, "olmo2-13b": 13_716_198_400,
        }),
    ],
)  # fmt: skip
def test_sizes_have_as_many_parameters_as_published(family, vocab_size, published):
    for size, count in published.items():
        d = family().sizes()[size]
        embeddings = 0 if vocab_size else 2 * 50_304 * d.width
        assert family().parameters(size, vocab_size or 50_304) - embeddings == count, size


@pytest.mark.parametrize("family", FAMILIES)
def test_arrays_of_every_size_are_those_that_are_counted_and_named(family):
    for size in family().sizes():
        model = nnx.eval_shape(
            lambda size=size: family().build(
                size, 300, ps.Model(scan_layers=True), jax.random.key(0)
            )
        )
        arrays = nnx.to_flat_state(nnx.state(model, nnx.Param))
        shapes = {path: array.shape for path, array in arrays}
        d, named = family().sizes()[size], {}
        for parameter in weights.table(family(), size, 300):
            stack = () if parameter.layer is None else (d.layers,)
            named[parameter.path(scan_layers=True)] = (*stack, *parameter.shape)
        assert shapes == named
        assert family().parameters(size, 300) == sum(map(math.prod, shapes.values()))


@pytest.mark.parametrize("family", SMALL)
def test_initial_weights_are_those_of_the_family(family):
    architecture = small(family, width=96, layers=3)
    model = architecture.build("custom", 300, ps.Model(), jax.random.key(0))
    inner, residual = (0.02, 0.02)
    if family is ps.GPTNeoX:
        inner, residual = (2 / (5 * 96)) ** 0.5, 2 / (3 * 96**0.5)
    block = model.blocks[2]
    for array, std in (
        (model.embedding_VxD, inner),
        (block.attention.query_key_value_DxJ, inner),
        (block.attention.out_JxD, residual),
        (block.mlp.up_DxM, inner),
        (block.mlp.down_MxD, residual),
    ):
        assert np.std(array[...]) == pytest.approx(std, rel=0.05)


@pytest.mark.parametrize(
    "family", [ps.Llama, *(pytest.param(f, marks=pytest.mark.long) for f in (ps.GPTNeoX, ps.OLMo2))]
)
def test_half_precision_is_as_precise_in_the_cache_as_without(family):
    settings = ps.Model(dtype="bfloat16")

    def logits():
        model = small(family).build("custom", 50, settings, jax.random.key(0))
        tokens = jax.random.randint(jax.random.key(1), (2, 9), 0, 50)
        cache, padding = model.empty_cache(2, 9), jnp.zeros(2, jnp.int32)
        return model.extend(tokens, padding, cache, 0)[0], model(tokens)[:, -1]

    cached, whole = jax.jit(logits)()
    assert cached.dtype == whole.dtype == jnp.float32
    np.testing.assert_allclose(cached, whole, atol=2e-2)


def test_a_study_states_a_shape_of_its_own_and_other_hashes_stay():
    assert serialization.to_json(ps.Model())["architecture"] == {"kind": "Decoder"}
    assert serialization.to_json(ps.Llama()) == {"kind": "Llama"}
    for family in SMALL:
        architecture = small(family)
        again = serialization.from_json(serialization.to_json(architecture), ps.Architecture)
        assert again == architecture
        assert again.sizes()["custom"] == architecture.shape


@pytest.mark.parametrize(
    ("family", "fields", "said"),
    [
        (ps.Llama, {"norm": "layer"}, r"shape.norm='layer': in Llama it is 'rms'"),
        (ps.GPTNeoX, {"window": 64}, r"shape.window=64: in GPTNeoX it is None"),
        (ps.OLMo2, {"norm_after": False}, r"shape.norm_after=False: in OLMo2 it is True"),
        (ps.Llama, {"kv_heads": 4}, r"kv_heads=4: it must divide heads=6"),
        (ps.Llama, {"width": 25}, r"heads=6: it must divide width=25"),
        (ps.GPTNeoX, {"rotary_share": 0.4}, r"heads=4: 3 numbers of a head are rotated, in pairs"),
    ],
)
def test_shapes_that_a_family_does_not_have_are_refused(family, fields, said):
    with pytest.raises(InputError, match=said):
        small(family, **fields)


def test_a_sliding_window_is_refused_where_it_matters():
    def shape(L, use):
        def run():
            model = small(ps.Llama, window=8).build("custom", 50, ps.Model(), jax.random.key(0))
            return use(model, L)

        return jax.eval_shape(run)

    def logits(model, L):
        return model(jnp.zeros((1, L), jnp.int32))

    def cache(model, L):
        return model.empty_cache(1, L)

    assert shape(8, logits).shape == (1, 8, 50) and len(shape(8, cache)) == 2
    for use in (logits, cache):
        with pytest.raises(InputError, match=r"data.seq_len=9: .* sliding window, .* at most 8"):
            shape(9, use)


def test_a_mesh_that_does_not_divide_the_heads_of_keys_is_refused():
    mesh = sharding.mesh((1, 2, 4))
    with pytest.raises(InputError, match="tensor axis of 4 does not divide the 2 heads of keys"):
        small(ps.Llama).build("custom", 64, ps.Model(), jax.random.key(0), mesh)


# ------------------------------------------------------------------------------------- config.json

LLAMA = {
    **{"model_type": "llama", "vocab_size": 300, "hidden_size": 24, "num_hidden_layers": 2},
    **{"num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 40},
}


def test_a_published_config_has_its_name():
    smollm2 = {
        **{"model_type": "llama", "hidden_size": 576, "intermediate_size": 1536},
        **{"num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3},
        **{"rms_norm_eps": 1e-5, "rope_scaling": None, "rope_theta": 100_000},
        **{"tie_word_embeddings": True, "vocab_size": 49_152, "rope_interleaved": False},
    }
    assert huggingface.from_huggingface(smollm2) == (ps.Llama(), "smollm2-135m", 49_152)
    for family in (ps.Llama, ps.GPTNeoX, ps.OLMo2):
        for size in family().sizes():
            config = huggingface.to_huggingface(family(), size, 1000, 2048)
            assert huggingface.from_huggingface(config) == (family(), size, 1000)
    pythia = {
        **{"model_type": "gpt_neox", "hidden_size": 512, "intermediate_size": 2048},
        **{"num_attention_heads": 8, "num_hidden_layers": 6, "vocab_size": 50_304},
        **{"rotary_pct": 0.25, "rotary_emb_base": 10_000, "layer_norm_eps": 1e-5},
        **{"hidden_act": "gelu", "use_parallel_residual": True, "tie_word_embeddings": False},
    }
    assert huggingface.from_huggingface(pythia) == (ps.GPTNeoX(), "pythia-70m", 50_304)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"model_type": "mixtral"},
            "models of type 'mixtral' are not supported; there are 'llama',",
        ),
        ({"model_type": None}, "models of type None are not supported"),
        ({"hidden_size": None}, "it has no field 'hidden_size'"),
        ({"hidden_size": "24"}, "hidden_size='24' is not a whole number"),
        ({"rms_norm_eps": -1}, "rms_norm_eps=-1 is not a positive number"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings=1 is neither true nor false"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu' is not supported; it must be 'silu'"),
        ({"rope_interleaved": True}, "rope_interleaved=True is not supported"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "of type 'linear' are not supported"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "of type 'yarn' are not supported"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "it has no field 'factor'"),
        ({"rope_theta": 0}, "rope_theta=0 is not a positive number"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5 is not supported"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "use_sliding_window=True is not"),
        ({"quantization_config": {"bits": 4}}, "quantised weights are not supported"),
        ({"num_key_value_heads": 4}, "kv_heads=4: it must divide heads=6"),
    ],
)
def test_what_is_not_supported_is_refused_with_its_field(fields, said):
    with pytest.raises(InputError) as error:
        huggingface.from_huggingface({**LLAMA, **fields})
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("family", "fields"),
    [(ps.GPTNeoX, {"out_bias": False}), (ps.Llama, {"window": 8, "mlp_bias": True})],
)
def test_shapes_that_no_config_json_describes_are_not_exported_as_others(family, fields):
    with pytest.raises(InputError, match="no config.json of type '.*' describes this shape"):
        huggingface.to_huggingface(small(family, **fields), "custom", 300, 64)


def test_an_architecture_of_ones_own_has_no_config_json():
    @dataclasses.dataclass(frozen=True)
    class Own(ps.Architecture):
        pass

    with pytest.raises(InputError, match="Hugging Face has no such model"):
        huggingface.to_huggingface(Own(), "1b", 300, 64)


def test_tensors_that_are_missing_left_over_or_misshapen_are_named():
    architecture, size, V = huggingface.from_huggingface({**LLAMA, "tie_word_embeddings": True})
    found = {n: s for p in weights.table(architecture, size, V) for n, s in p.tensors.items()}
    of_old = {"model.layers.0.self_attn.rotary_emb.inv_freq": (2,), "lm_head.weight": (300, 24)}
    weights.check({**found, **of_old}, architecture, size, V)

    def said(**changed):
        changed = {name.replace("__", "."): shape for name, shape in changed.items()}
        with pytest.raises(InputError) as error:
            weights.check(
                {n: s for n, s in {**found, **changed}.items() if s}, architecture, size, V
            )
        return str(error.value)

    assert "'model.norm.weight' is missing" in said(model__norm__weight=None)
    assert "'model.norm.weight' has shape [25]; by config.json it must have [24]" in said(
        model__norm__weight=(25,)
    )
    assert "has no tensor 'model.norm.bias'; the nearest is 'model.norm.weight'" in said(
        model__norm__bias=(24,)
    )
    arrays = {name: np.zeros(shape) for name, shape in found.items()}
    arrays["model.norm.weight"] = np.zeros(7)
    with pytest.raises(InputError, match=r"'model.norm.weight' has shape \[7\]"):
        weights.load(arrays.__getitem__, ps.Model(architecture=architecture), size, V)


# ---------------------------------------------------------------------------------------- TPU slices


@pytest.mark.long
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs libtpu")
@pytest.mark.parametrize(
    ("architecture", "size", "vocab_size"),
    [
        (ps.Llama(), "llama-3.1-8b", 128_256),
        (ps.GPTNeoX(), "pythia-6.9b", 50_432),
        (ps.OLMo2(), "olmo2-7b", 100_352),
    ],
)
def test_the_step_of_each_family_compiles_for_a_slice(architecture, size, vocab_size):
    study = ps.Study(
        "s",
        (ps.Rung(size),),
        (0,),
        data=ps.Data(seq_len=2048, vocabulary=ps.TrainedSentencePiece(vocab_size=vocab_size)),
        model=ps.Model(
            architecture=architecture,
            dtype="bfloat16",
            attention="fused",
            scan_layers=True,
            remat="full",
            loss_chunk=512,
            segment_mask=True,
        ),
        train=ps.Train(batch_size=64),
        machine=ps.Machine(mesh=(1, -1, 2)),
    )
    result = aot.compile(study, ps.Slice(size, "v5p:2x4x4"))
    assert result.fits
    assert result.flops == pytest.approx(4 / 3 * result.analytic_flops, rel=0.1)
