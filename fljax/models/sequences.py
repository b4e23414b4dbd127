"""Networks on tokens: one output for the whole text, or one after every token."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from fljax.models.registry import register_model


def _tokens(name: str, x: Array) -> Array:
    """The inputs, if they are tokens (b, T)."""
    if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.integer):
        raise ValueError(f"{name}: tokens (T,) of type int32 needed, got {x.shape[1:]} of type {x.dtype}")
    return x


@register_model("mean_embedding", title="mean embedding", source="Joulin et al. 2017")
class MeanEmbedding(nn.Module):
    """The mean of a text's embeddings and a dense layer, for one label a text.

    Attributes:
        num_classes: M.
        num_tokens: V; from the data.
        width: of the embeddings.

    Source: Joulin et al., "Bag of tricks for efficient text classification", EACL 2017 (fastText), without
    its n-grams.
    """

    num_classes: int
    num_tokens: int
    width: int = 64

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.Embed(self.num_tokens, self.width)(_tokens("mean_embedding", x))
        return nn.Dense(self.num_classes)(jnp.mean(x, axis=1))


class _LSTMLayer(nn.Module):
    """A layer of LSTM cells over time, (b, T, features) to (b, T, width).

    The inputs' products of all times are one, so that only those with the hidden state are left in the loop.
    The forget gate starts with bias 1.
    """

    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = self.width

        def bias(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
            return jnp.zeros(shape, dtype).at[width : 2 * width].set(1.0)

        inputs = nn.Dense(4 * width, kernel_init=nn.initializers.glorot_uniform(), bias_init=bias)(x)
        kernel = self.param("recurrent", _recurrent, (width, 4 * width), x.dtype)

        def step(carry: tuple[Array, Array], now: Array) -> tuple[tuple[Array, Array], Array]:
            cell, hidden = carry
            enter, forget, candidate, leave = jnp.split(now + hidden @ kernel, 4, axis=-1)
            cell = nn.sigmoid(forget) * cell + nn.sigmoid(enter) * jnp.tanh(candidate)
            hidden = nn.sigmoid(leave) * jnp.tanh(cell)
            return (cell, hidden), hidden

        zeros = jnp.zeros((x.shape[0], width), x.dtype)
        _, hidden = lax.scan(step, (zeros, zeros), jnp.swapaxes(inputs, 0, 1))
        return jnp.swapaxes(hidden, 0, 1)


def _recurrent(key: Array, shape: tuple[int, int], dtype: jnp.dtype) -> Array:
    """An orthogonal matrix for each of the four gates."""
    width = shape[0]
    gates = [nn.initializers.orthogonal()(own, (width, width), dtype) for own in jax.random.split(key, 4)]
    return jnp.concatenate(gates, axis=1)


@register_model("lstm", title="LSTM", source="McMahan et al. 2017")
class LSTM(nn.Module):
    """FedAvg's and LEAF's network for Shakespeare: embeddings of 8, two LSTM layers of 256, dense M.

    With 80 characters 817,872 parameters. Where the data have a label after every token, so has the network;
    where they have one for the text, it is made of the last hidden state, as in LEAF.

    Attributes:
        num_classes: M.
        num_tokens: V; from the data.
        every_token: whether there is an output after every token; from the data.
        embedding: width of the embeddings.
        width: of the layers.
        layers: number of them.

    Source: McMahan et al., "Communication-efficient learning of deep networks from decentralized data",
    AISTATS 2017, section 3; Caldas et al., "LEAF", 2018. Both leave the initialisation open; kernels here
    start as Keras has it (Glorot uniform, orthogonal, forget bias 1).
    """

    num_classes: int
    num_tokens: int
    every_token: bool = False
    embedding: int = 8
    width: int = 256
    layers: int = 2

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.Embed(self.num_tokens, self.embedding)(_tokens("lstm", x))
        for _ in range(self.layers):
            x = _LSTMLayer(self.width)(x)
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.glorot_uniform())(
            x if self.every_token else x[:, -1]
        )


@register_model("transformer", title="transformer", source="Wang et al. 2021")
class Transformer(nn.Module):
    """A small decoder-only transformer: causal attention, ReLU layers, learned positions, dropout.

    Every block is attention and a perceptron, each behind a normalisation and beside a shortcut; a
    normalisation and dense M follow. Where the data have a label after every token, so has the network; where
    they have one for the text, it comes after the last token.

    Attributes:
        num_classes: M.
        num_tokens: V; from the data.
        every_token: whether there is an output after every token; from the data.
        width: of the embeddings.
        hidden: of the perceptrons.
        heads: of attention; divides `width`.
        layers: number of blocks.
        dropout: share that is dropped after embeddings, attention and perceptrons.

    Source: sizes as for Stack Overflow in Wang et al., "A field guide to federated optimization", 2021. There
    normalisation follows the shortcut, positions are sines and the output shares the embeddings, as in
    pfl-research; normalisation first trains without a warm-up (Xiong et al., ICML 2020).
    """

    num_classes: int
    num_tokens: int
    every_token: bool = False
    width: int = 96
    hidden: int = 1536
    heads: int = 8
    layers: int = 3
    dropout: float = 0.1

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        if self.width % self.heads:
            raise ValueError(f"transformer: heads={self.heads} must divide width={self.width}")
        length = _tokens("transformer", x).shape[1]
        positions = self.param("positions", nn.initializers.normal(0.02), (length, self.width))
        x = nn.Embed(self.num_tokens, self.width, embedding_init=nn.initializers.normal(0.02))(x) + positions

        def drop(x: Array) -> Array:
            return nn.Dropout(self.dropout, deterministic=not train)(x)

        x = drop(x)
        causal = jnp.tril(jnp.ones((1, 1, length, length), bool))
        for _ in range(self.layers):
            x = x + drop(nn.MultiHeadDotProductAttention(self.heads)(nn.LayerNorm()(x), mask=causal))
            inside = nn.relu(nn.Dense(self.hidden)(nn.LayerNorm()(x)))
            x = x + drop(nn.Dense(self.width)(inside))
        return nn.Dense(self.num_classes)(nn.LayerNorm()(x if self.every_token else x[:, -1]))
