"""Networks on tokens: sizes, numbers, causality, and a run in which tokens stay integers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fljax
from fljax.config.schema import parse_config
from fljax.data import Dataset
from fljax.models import LSTM, MeanEmbedding, Transformer, as_model

KEY = jax.random.key(0)
TOKENS = np.random.default_rng(0).integers(0, 7, (40, 6)).astype(np.int32)
TEXTS = Dataset(TOKENS, TOKENS[:, 0] % 3, TOKENS[:9], TOKENS[:9, 0] % 3, 3, "texts")
BASE = {
    "rounds": 2,
    "eval_every": 1,
    "num_clients": 3,
    "root": {"size": 4},
    "local": {"batch_size": 8, "learning_rate": 0.5},
    "aggregator": {"name": "mean"},
}


def size(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def made(module, length=6):
    model = as_model(module, (length,), jnp.int32)
    return model, jax.jit(model.init)(KEY)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_lstm_is_leafs():
    model = as_model(LSTM(80, 80), (80,), jnp.int32)
    params = jax.eval_shape(model.init, KEY)
    layers = [4 * (n * 256 + 256 * 256 + 256) for n in (8, 256)]
    assert size(params) == 80 * 8 + sum(layers) + 257 * 80 == 817_872
    tokens = jax.ShapeDtypeStruct((2, 80), jnp.int32)
    assert jax.eval_shape(model.apply, params, tokens).shape == (2, 80)
    model = as_model(LSTM(80, 80, every_token=True), (80,), jnp.int32)
    assert jax.eval_shape(model.apply, params, tokens).shape == (2, 80, 80)


def test_the_lstm_equals_a_loop():
    model, params = made(LSTM(3, 7, every_token=True, embedding=2, width=4))
    tokens = TOKENS[:5]
    x = np.asarray(params["Embed_0"]["embedding"], np.float64)[tokens]
    for layer in range(2):
        cells = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params[f"_LSTMLayer_{layer}"])
        kernel, bias = cells["Dense_0"]["kernel"], cells["Dense_0"]["bias"]
        np.testing.assert_array_equal(bias, [0] * 4 + [1] * 4 + [0] * 8)
        out = np.zeros((5, 6, 4))
        for example in range(5):
            c, h = np.zeros(4), np.zeros(4)
            for t in range(6):
                i, f, g, o = np.split(x[example, t] @ kernel + bias + h @ cells["recurrent"], 4)
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
                out[example, t] = h
        x = out
    dense = params["Dense_0"]
    logits = x @ np.asarray(dense["kernel"], np.float64) + np.asarray(dense["bias"], np.float64)
    np.testing.assert_allclose(model.apply(params, tokens), logits, atol=1e-5)
    last, _ = made(LSTM(3, 7, embedding=2, width=4))
    np.testing.assert_allclose(last.apply(params, tokens), logits[:, -1], atol=1e-5)


def test_the_mean_embedding_is_a_linear_function_of_counts():
    model, params = made(MeanEmbedding(3, 7, width=4))
    counts = np.stack([np.bincount(row, minlength=7) for row in TOKENS]) / 6
    expected = (
        counts @ params["Embed_0"]["embedding"] @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    )
    np.testing.assert_allclose(model.apply(params, TOKENS), expected, atol=1e-6)


def test_the_transformer_looks_back_alone():
    module = Transformer(7, 7, every_token=True, width=8, hidden=12, heads=2, layers=2)
    model, params = made(module)
    assert model.random
    logits = jax.jit(model.apply)(params, TOKENS[:3])
    assert logits.shape == (3, 6, 7)
    changed = TOKENS[:3].copy()
    changed[:, 4] = (changed[:, 4] + 1) % 7
    others = jax.jit(model.apply)(params, changed)
    np.testing.assert_allclose(logits[:, :4], others[:, :4], atol=1e-6)
    assert (np.abs(logits - others)[:, 4:].max(-1) > 1e-4).all()
    # The last token's output is that of the network with one output a text, whose parameters are the same.
    last, _ = made(Transformer(7, 7, width=8, hidden=12, heads=2, layers=2))
    np.testing.assert_allclose(last.apply(params, TOKENS[:3]), logits[:, -1], atol=1e-6)
    assert not made(Transformer(7, 7, width=8, hidden=12, heads=2, layers=1, dropout=0.0))[0].random


@pytest.mark.parametrize(
    "model",
    [
        {"name": "mean_embedding", "width": 4},
        {"name": "lstm", "width": 4},
        {"name": "transformer", "width": 4, "hidden": 6, "heads": 2, "layers": 1},
    ],
)
def test_a_run_on_tokens(model):
    config = parse_config({**BASE, "model": model})
    _, state = fljax.build(config, dataset=TEXTS)
    assert state.data.x.dtype == jnp.int32
    result = fljax.run(config, dataset=TEXTS, progress=False)
    assert np.isfinite(result.metrics["loss"]).all()
    assert 0 <= result.summary["test_error"] <= 1


def test_a_run_on_the_next_token():
    # The next token is the last one plus 1, which frequencies alone do not tell.
    x = (np.arange(60)[:, None] + np.arange(5)) % 4
    next_token = Dataset(
        x.astype(np.int32),
        ((x + 1) % 4).astype(np.int32),
        *(v.astype(np.int32) for v in (x[:8], (x[:8] + 1) % 4)),
        4,
        "next",
    )
    local = {"batch_size": "full", "learning_rate": 0.1, "steps": 4, "optimizer": {"name": "adam"}}
    model = {"name": "lstm", "width": 8, "embedding": 4, "layers": 1}
    config = parse_config({**BASE, "rounds": 30, "eval_every": 30, "model": model, "local": local})
    result = fljax.run(config, dataset=next_token, progress=False)
    assert result.metrics["loss"][-1] < 0.5 * np.log(4)
    assert result.summary["test_error"] < 0.1


def refusal(dataset, **changes):
    with pytest.raises(fljax.ConfigError) as caught:
        fljax.build(parse_config({**BASE, **changes}), dataset=dataset)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_models_and_inputs_that_do_not_fit_are_one_sentence():
    x = np.zeros((40, 6), np.float32)
    rows = Dataset(x, TEXTS.train_y, x[:9], TEXTS.test_y, 3, "rows")
    lstm = {"name": "lstm", "width": 4}
    assert "model lstm: is for tokens, the data set's inputs are real numbers" in refusal(rows, model=lstm)
    assert "heads=3 must divide width=4" in refusal(
        TEXTS, model={"name": "transformer", "width": 4, "heads": 3}
    )
    next_token = Dataset(TOKENS, TOKENS, TOKENS[:9], TOKENS[:9], 7, "next")
    message = refusal(next_token, model={"name": "mean_embedding"})
    assert "inputs (1, ...) must become logits (1, 6, 7), got shape (1, 7)" in message
    with pytest.raises(ValueError, match="tokens .* needed, got .* of type float32"):
        as_model(LSTM(3, 7), (6,))


def test_a_trigger_on_tokens_is_one_sentence():
    for name in ("badnets", "distributed_backdoor"):
        message = refusal(TEXTS, model={"name": "mean_embedding"}, attack={"name": name, "fraction": 0.4})
        assert message.endswith(": the trigger sets pixels or features, but the inputs are tokens")
