"""Small random models of transformers, and what ours compute from the files that it writes."""

import functools
import json
import math
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from poison_scaling import Decoder, Dimensions, Llama, Model
from poison_scaling.model import decoding, huggingface, losses, sharding, weights
from poison_scaling.train import state

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
numpy_files = pytest.importorskip("safetensors.numpy")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

V, END, B, L, P, G = 96, 1, 4, 24, 3, 64
COMMON = {
    **{"vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"intermediate_size": 48, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0},
}
SCALED = {
    **{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "original_max_position_embeddings": 16,
}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(
        **COMMON, num_key_value_heads=2, rope_theta=5e5, rope_scaling=SCALED, rms_norm_eps=1e-5
    ),
    "qwen2": lambda: transformers.Qwen2Config(
        **COMMON, num_key_value_heads=2, tie_word_embeddings=True
    ),
    "neox": lambda: transformers.GPTNeoXConfig(**COMMON, rotary_pct=0.5),
    "olmo2": lambda: transformers.Olmo2Config(**COMMON, num_key_value_heads=2, rope_theta=5e5),
    # Options that are rarer.
    "biases": lambda: transformers.LlamaConfig(
        **COMMON, num_key_value_heads=2, head_dim=6, attention_bias=True, mlp_bias=True
    ),
    "sequential": lambda: transformers.GPTNeoXConfig(
        **COMMON, use_parallel_residual=False, hidden_act="gelu_new", attention_bias=False
    ),
    "mistral": lambda: transformers.MistralConfig(
        **COMMON, num_key_value_heads=4, sliding_window=None
    ),
}


def among(*names: str) -> list:
    """Return the names of all configs; the tests of others than these are long."""
    return [
        name if name in names else pytest.param(name, marks=pytest.mark.long) for name in CONFIGS
    ]


RNG = np.random.default_rng(0)
TOKENS = RNG.integers(2, V, (B, L)).astype(np.int32)
TOKENS[:, [4, 15]] = END  # documents end there
INPUTS = np.concatenate([np.full((B, 1), END, np.int32), TOKENS[:, :-1]], axis=1)


@functools.cache
def theirs(name: str):
    """Return a model of transformers whose every parameter is random, and the tensors and config it saves."""
    torch.manual_seed(0)
    config = CONFIGS[name]()
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            middle = 1 if key.endswith("norm.weight") else 0
            parameter.copy_(middle + 0.2 * torch.randn_like(parameter))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tensors = numpy_files.load_file(f"{folder}/model.safetensors")
        saved = json.loads(pathlib.Path(folder, "config.json").read_text())
    return model.float().eval(), tensors, saved


@functools.cache
def ours(name: str, scan_layers: bool = False, mesh=None):
    """Return our settings, the size, the structure and the parameters of the same model."""
    _, tensors, config = theirs(name)
    architecture, size, vocab_size = huggingface.from_huggingface(config)
    settings = Model(architecture=architecture, scan_layers=scan_layers)
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    weights.check(shapes, architecture, size, vocab_size)
    shardings = mesh and state.parameter_shardings(size, vocab_size, settings, mesh)
    params = weights.load(tensors.__getitem__, settings, size, vocab_size, shardings)
    return settings, size, state.graph(size, vocab_size, settings, mesh), params


@functools.cache
def computed(name: str, **how):
    """Return logits of INPUTS as one document, and the loss of TOKENS by documents with its gradient."""
    _, _, graph, params = ours(name, **how)

    def loss(params):
        logits = nnx.merge(graph, params)(jnp.asarray(INPUTS))
        of_documents, _ = losses.token_losses(graph, params, jnp.asarray(TOKENS), END, True)
        return jnp.mean(of_documents), logits

    (value, logits), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return np.asarray(logits), float(value), gradient


@pytest.mark.parametrize("name", among("llama", "qwen2", "neox", "olmo2"))
def test_logits_are_theirs(name):
    with torch.no_grad():
        expected = theirs(name)[0](torch.tensor(INPUTS).long()).logits.numpy()
    np.testing.assert_allclose(computed(name)[0], expected, atol=1e-4)
    assert np.std(expected) > 0.1


@pytest.mark.parametrize("name", among("llama", "qwen2", "neox", "olmo2"))
def test_gradients_of_documents_that_do_not_see_each_other_are_theirs(name):
    model, _, _ = theirs(name)
    documents = np.cumsum(INPUTS == END, axis=1)
    allowed = np.tril(np.ones((L, L), bool)) & (documents[:, :, None] == documents[:, None])
    mask = torch.where(torch.tensor(allowed)[:, None], 0.0, torch.finfo(torch.float32).min)
    model.zero_grad()
    logits = model(torch.tensor(INPUTS).long(), attention_mask=mask).logits
    loss = torch.nn.functional.cross_entropy(
        logits.reshape(-1, V), torch.tensor(TOKENS).long().reshape(-1)
    )
    loss.backward()
    _, value, gradient = computed(name)
    assert value == pytest.approx(loss.item(), abs=1e-5)
    # Version 5 of transformers names the output layer of GPT-NeoX otherwise in memory than in files.
    expected = {key.replace("lm_head", "embed_out"): p.grad for key, p in model.named_parameters()}
    expected |= {key: p.grad for key, p in model.named_parameters()}
    settings, size, _, _ = ours(name)
    found = dict(weights.tensors(gradient, settings, size, V))
    assert len(found) == len(list(model.parameters()))
    for key, value in found.items():
        np.testing.assert_allclose(value, expected[key], atol=1e-3, err_msg=key)
        assert np.any(value), key


@pytest.mark.parametrize("name", among("llama", "neox", "olmo2"))
def test_prompts_padded_on_the_left_are_continued_by_the_same_tokens(name):
    _, _, graph, params = ours(name)
    padding = np.array([0, 5, 2])
    prompts = np.where(np.arange(L // 2) < padding[:, None], 0, TOKENS[:P, : L // 2])
    expected = theirs(name)[0].generate(
        torch.tensor(prompts).long(),
        attention_mask=torch.tensor(np.arange(L // 2) >= padding[:, None]).long(),
        max_new_tokens=G,
        do_sample=False,
    )
    keys = jax.vmap(jax.random.key)(jnp.arange(P))
    found, _ = decoding.sample(
        graph, params, jnp.asarray(prompts), jnp.asarray(padding), keys, 1e-7, generate=G
    )
    np.testing.assert_array_equal(found, expected[:, L // 2 :].numpy())
    assert len(np.unique(found)) > 10


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("scan_layers", [False, True])
def test_what_is_imported_is_exported_bit_by_bit(name, scan_layers):
    model, tensors, config = theirs(name)
    settings, size, _, params = ours(name, scan_layers=scan_layers)
    found = dict(weights.tensors(params, settings, size, V))
    assert found.keys() == tensors.keys()
    assert all(np.array_equal(found[key], tensors[key]) for key in found)
    assert settings.architecture.parameters(size, V) == model.num_parameters()
    context = config["max_position_embeddings"]
    exported = huggingface.to_huggingface(settings.architecture, size, V, context)
    assert huggingface.from_huggingface(exported) == (settings.architecture, size, V)
    read = transformers.AutoConfig.for_model(**exported)
    assert exported["architectures"] == (
        ["LlamaForCausalLM"] if name == "mistral" else config["architectures"]
    )
    for key in ("rope_parameters", "hidden_size", "tie_word_embeddings", "max_position_embeddings"):
        assert getattr(read, key) == getattr(model.config, key), key


@pytest.mark.parametrize("name", among("olmo2"))
def test_scanned_layers_on_a_mesh_compute_what_unrolled_ones_do_on_one_device(name):
    """Two devices for each of data, parameters and heads."""
    mesh = sharding.mesh((2, 2, 2), jax.devices()[:8])
    how = {"scan_layers": True, "mesh": mesh}
    settings, size, _, params = ours(name, **how)
    shapes = {p.path(True): p.shape for p in weights.table(settings.architecture, size, V)}
    for path, array in jax.tree_util.tree_leaves_with_path(params):
        shape = shapes[tuple(part.key for part in path)]
        held = {s.data.size for s in array.addressable_shards}
        assert held == {array.size // (4 if len(shape) == 2 else 2)}, path
    found, expected = computed(name, **how), computed(name)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    assert found[1] == pytest.approx(expected[1], rel=1e-5)
    unrolled, size, _, _ = ours(name)
    gradients = dict(weights.tensors(expected[2], unrolled, size, V))
    for key, value in weights.tensors(found[2], settings, size, V):
        np.testing.assert_allclose(value, gradients[key], atol=1e-5, err_msg=key)


def test_our_decoder_is_a_llama(tmp_path):
    settings, size = Model(scan_layers=True), "40k"
    model = state.build(size, V, settings, jax.random.key(0))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    numpy_files.save_file(
        dict(weights.tensors(params, settings, size, V)),
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = huggingface.to_huggingface(Decoder(), size, V, context=L)
    (tmp_path / "config.json").write_text(json.dumps(config))
    llama = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(llama).__name__ == "LlamaForCausalLM"
    with torch.no_grad():
        logits = llama(torch.tensor(INPUTS).long()).logits.numpy()
    np.testing.assert_allclose(nnx.jit(model)(jnp.asarray(INPUTS)), logits, atol=1e-4)
    architecture, imported, _ = huggingface.from_huggingface(config)
    assert isinstance(architecture, Llama) and imported == "custom"
    assert architecture.parameters(imported, V) == Decoder().parameters(size, V)


def test_half_precision_is_kept_exactly():
    halves = Llama(shape=Dimensions(width=16, layers=1, heads=2, mlp=8, initial="normal"))
    settings = Model(architecture=halves)
    tensors = {
        name: RNG.normal(size=shape).astype(jnp.bfloat16)
        for p in weights.table(halves, "custom", V)
        for name, shape in p.tensors.items()
    }
    params = weights.load(tensors.__getitem__, settings, "custom", V)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(params)) == halves.parameters(
        "custom", V
    )
    for name, value in weights.tensors(params, settings, "custom", V):
        assert np.array_equal(value.astype(jnp.bfloat16), tensors[name])
