"""LLaMA as Flax linen modules: scanned over layers, every axis named, attention handed in.

Nothing here knows a mesh or a file; partitioning/rules.py says where each named axis goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike

from melama_jax.kernels.attention import attention, cached_attention
from melama_jax.models import rope
from melama_jax.models.config import LlamaConfig, LoraConfig
from melama_jax.models.remat import remat_policy

Attention = Callable[[jax.Array, jax.Array, jax.Array, jax.Array | None], jax.Array]
CachedAttention = Callable[[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


@dataclass(frozen=True)
class Reordered:
    """Attention that wants its sequences in another order than the text's, and the way there and back.

    Nothing else in a layer minds the order, positions being explicit, so the model changes it once, not each layer.

    Args:
        attend: the attention, its arrays all in its own order.
        enter: [batch, length, ...] from the text's order to its own.
        leave: the inverse of enter.
    """

    attend: Attention
    enter: Callable[[jax.Array], jax.Array]
    leave: Callable[[jax.Array], jax.Array]

    def __call__(
        self, query: jax.Array, key: jax.Array, value: jax.Array, segment_ids: jax.Array | None = None
    ) -> jax.Array:
        return self.attend(query, key, value, segment_ids)


class KVCache(NamedTuple):
    """Keys and values of every layer, each [layers, batch, slots, kv_heads * head_dim].

    Layers work on the whole of it in turn, since cutting a layer out and putting it back would copy it each time.
    """

    key: jax.Array
    value: jax.Array


def init_cache(config: LlamaConfig, batch: int, slots: int, dtype: DTypeLike = jnp.float32) -> KVCache:
    """An empty cache of `slots` positions for each of `batch` rows."""
    shape = (config.num_layers, batch, slots, config.num_kv_heads * config.head_dim)
    return KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang and Sennrich 2019), taken in float32."""

    eps: float
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale: Any = self.param(
            "scale",
            nn.with_logical_partitioning(nn.initializers.ones, ("norm",)),
            (x.shape[-1],),
            self.param_dtype,
        )
        wide = x.astype(jnp.float32)
        normed = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.eps)
        return normed.astype(self.dtype) * scale.astype(self.dtype)


class Projection(nn.Module):
    """x @ kernel, and with an adapter + scale * (dropout(x) @ lora_a) @ lora_b. Kernels are [in, out]."""

    features: int
    axes: tuple[str, str]
    lora: LoraConfig | None
    dtype: DTypeLike
    param_dtype: DTypeLike
    merge_rows: bool = True  # see Llama

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        *places, width = x.shape
        if self.merge_rows:
            x = x.reshape(-1, width)
        kernel = self._weight("kernel", nn.initializers.normal(0.02), self.axes, (width, self.features))
        out = x @ kernel
        if self.lora is not None and self.name in self.lora.targets:
            lora = self.lora
            a_init = nn.initializers.variance_scaling(
                1 / 3, "fan_in", "uniform"
            )  # PEFT's and PyTorch's kaiming(√5)
            a = self._weight("lora_a", a_init, (self.axes[0], "lora"), (width, lora.rank))
            b = self._weight(
                "lora_b", nn.initializers.zeros, ("lora", self.axes[1]), (lora.rank, self.features)
            )
            adapted = nn.Dropout(lora.dropout)(x, deterministic=deterministic)
            out = out + lora.scale * ((adapted @ a) @ b)
        return checkpoint_name(out.reshape(*places, self.features), self.name or "projection")

    def _weight(
        self, name: str, init: nn.initializers.Initializer, axes: tuple[str, str], shape: tuple[int, int]
    ) -> jax.Array:
        weight: Any = self.param(name, nn.with_logical_partitioning(init, axes), shape, self.param_dtype)
        return weight.astype(self.dtype)


class SelfAttention(nn.Module):
    """Grouped-query attention; how it is computed is a field (kernels/ has the choices)."""

    config: LlamaConfig
    lora: LoraConfig | None
    attention: Attention
    cached_attention: CachedAttention
    dtype: DTypeLike
    param_dtype: DTypeLike
    merge_rows: bool = True

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        positions: jax.Array,
        segment_ids: jax.Array | None,
        cache: KVCache | None,
        layer: jax.Array | None,
        deterministic: bool,
    ) -> tuple[jax.Array, KVCache | None]:
        config = self.config
        query = self._heads(x, "q_proj", config.num_heads, "heads", deterministic)
        key = self._heads(x, "k_proj", config.num_kv_heads, "kv_heads", deterministic)
        value = self._heads(x, "v_proj", config.num_kv_heads, "kv_heads", deterministic)
        freqs = rope.frequencies(config)
        query, key = rope.rotate(query, positions, freqs), rope.rotate(key, positions, freqs)
        if cache is None:
            out = self.attention(query, key, value, segment_ids)
        else:
            assert layer is not None
            cache = KVCache(
                _write(cache.key, layer, key, positions), _write(cache.value, layer, value, positions)
            )
            out = self.cached_attention(query, cache.key, cache.value, positions, layer)
        out = out.reshape(*x.shape[:-1], -1)
        return self._project(config.embed_dim, ("heads", "embed"), "o_proj")(out, deterministic), cache

    def _heads(self, x: jax.Array, name: str, heads: int, axis: str, deterministic: bool) -> jax.Array:
        width = heads * self.config.head_dim
        split = self._project(width, ("embed", axis), name)(x, deterministic).reshape(
            *x.shape[:-1], heads, self.config.head_dim
        )
        return nn.with_logical_constraint(split, ("batch", "length", axis, "head_dim"))

    def _project(self, features: int, axes: tuple[str, str], name: str) -> Projection:
        return Projection(features, axes, self.lora, self.dtype, self.param_dtype, self.merge_rows, name=name)


def _write(cache: jax.Array, layer: jax.Array, new: jax.Array, positions: jax.Array) -> jax.Array:
    """cache [layers, batch, slots, channels] with each row's new [batch, length, ...] at its own positions."""
    rows = jnp.arange(cache.shape[1])[:, None]
    new = new.reshape(*positions.shape, -1).astype(cache.dtype)
    return cache.at[layer, rows, positions].set(new, mode="drop")


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

    config: LlamaConfig
    lora: LoraConfig | None
    dtype: DTypeLike
    param_dtype: DTypeLike
    merge_rows: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        def project(features: int, axes: tuple[str, str], name: str) -> Projection:
            return Projection(
                features, axes, self.lora, self.dtype, self.param_dtype, self.merge_rows, name=name
            )

        gate = project(self.config.mlp_dim, ("embed", "mlp"), "gate_proj")(x, deterministic)
        up = project(self.config.mlp_dim, ("embed", "mlp"), "up_proj")(x, deterministic)
        hidden = nn.with_logical_constraint(nn.silu(gate) * up, ("batch", "length", "mlp"))
        return project(self.config.embed_dim, ("mlp", "embed"), "down_proj")(hidden, deterministic)


class Block(nn.Module):
    """One layer: x + attention(norm(x)), then + mlp(norm(.)). Written as a scan body that carries (x, cache)."""

    config: LlamaConfig
    lora: LoraConfig | None
    attention: Attention
    cached_attention: CachedAttention
    dtype: DTypeLike
    param_dtype: DTypeLike
    merge_rows: bool = True

    @nn.compact
    def __call__(
        self,
        carry: tuple[jax.Array, KVCache | None],
        layer: jax.Array | None,
        positions: jax.Array,
        segment_ids: jax.Array | None,
        deterministic: bool,
    ) -> tuple[tuple[jax.Array, KVCache | None], None]:
        config = self.config
        x, cache = carry
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = nn.with_logical_constraint(x, ("batch", "length", "act_embed"))
        attend = SelfAttention(
            config,
            self.lora,
            self.attention,
            self.cached_attention,
            **types,
            merge_rows=self.merge_rows,
            name="attention",
        )
        normed = RMSNorm(config.norm_eps, **types, name="input_norm")(x)
        attended, cache = attend(normed, positions, segment_ids, cache, layer, deterministic)
        x = x + attended
        normed = RMSNorm(config.norm_eps, **types, name="post_attention_norm")(x)
        x = x + SwiGLU(config, self.lora, **types, merge_rows=self.merge_rows, name="mlp")(
            normed, deterministic
        )
        return (nn.with_logical_constraint(x, ("batch", "length", "act_embed")), cache), None


class Llama(nn.Module):
    """A decoder-only LLaMA.

    Args:
        config: its shape.
        lora: adapters on the projections, or None.
        attention: (query, key, value, segment_ids) -> out; causal, see kernels/attention.py. May be Reordered.
        cached_attention: (query, key cache, value cache, positions, layer) -> out, for decoding.
        dtype: what activations and products are computed in.
        param_dtype: what weights are held in.
        remat: a name of remat.POLICIES: what the backward pass keeps of each layer.
        offload: activations that wait for the backward pass in host memory.
        merge_rows: products take batch and length as one dimension, plain matrix products forward and backward: on
            CPUs a whole training step is half as slow again without. False where a mesh splits length: there the
            merged dimension would be gathered.
    """

    config: LlamaConfig
    lora: LoraConfig | None = None
    attention: Attention = attention
    cached_attention: CachedAttention = cached_attention
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    remat: str = "none"
    offload: tuple[str, ...] = ()
    merge_rows: bool = True

    def setup(self) -> None:
        config = self.config
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        init = nn.with_logical_partitioning(nn.initializers.normal(0.02), ("vocab", "embed"))
        self.embedder = nn.Embed(config.vocab_size, config.embed_dim, embedding_init=init, **types)
        body: Any = Block
        policy = remat_policy(self.remat, self.offload)
        if policy is not None:
            body = nn.remat(Block, policy=policy, prevent_cse=False, static_argnums=(5,))
        self.layers = nn.scan(
            body,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),  # pyright: ignore[reportArgumentType]
            length=config.num_layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )(config, self.lora, self.attention, self.cached_attention, **types, merge_rows=self.merge_rows)
        self.final_norm = RMSNorm(config.norm_eps, **types)
        if not config.tie_embeddings:
            self.lm_head = Projection(
                config.vocab_size, ("embed", "vocab"), None, **types, merge_rows=self.merge_rows
            )

    def __call__(
        self,
        inputs: jax.Array,
        positions: jax.Array,
        segment_ids: jax.Array | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        """Logits of the next token at every place.

        Args:
            inputs: int32 [batch, length].
            positions: int32 [batch, length], counted within each segment.
            segment_ids: int32 [batch, length]; attention stays within a segment. None: one segment a row.
            deterministic: False applies LoRA dropout (give a `dropout` rng).

        Returns:
            float32 [batch, length, vocab].
        """
        return self.unembed(self.hidden(inputs, positions, segment_ids, deterministic))

    def hidden(
        self,
        inputs: jax.Array,
        positions: jax.Array,
        segment_ids: jax.Array | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        """The residual stream after the last norm, [batch, length, embed]: where the loss starts."""
        order = self.attention if isinstance(self.attention, Reordered) else None
        if order is not None:
            inputs, positions, segment_ids = jax.tree.map(order.enter, (inputs, positions, segment_ids))
        (x, _), _ = self.layers((self.embedder(inputs), None), None, positions, segment_ids, deterministic)
        x = self.final_norm(x)
        return x if order is None else order.leave(x)

    def head(self) -> jax.Array:
        """What `unembed` multiplies by, [embed, vocab] in dtype: a loss goes through it without all the logits."""
        tied = self.config.tie_embeddings
        kernel = self.embedder.embedding.T if tied else self.lm_head.get_variable("params", "kernel")
        return kernel.astype(self.dtype)

    def unembed(self, hidden: jax.Array) -> jax.Array:
        """[batch, length, embed] -> float32 logits [batch, length, vocab]."""
        head = self.embedder.attend if self.config.tie_embeddings else self.lm_head
        logits = nn.with_logical_constraint(head(hidden), ("batch", "length", "vocab"))
        return logits.astype(jnp.float32)

    def decode(self, inputs: jax.Array, positions: jax.Array, cache: KVCache) -> tuple[jax.Array, KVCache]:
        """Some more tokens of each row against the cache: a whole prompt, or one token.

        Args:
            inputs: int32 [batch, length].
            positions: int32 [batch, length]: each token's slot in the cache and its rotary position. Tokens
                attend to every slot up to their own; a position beyond the cache is not written.
            cache: the keys and values so far.

        Returns:
            (float32 logits [batch, length, vocab], the cache with the new tokens written in).
        """
        hidden, cache = self.decode_hidden(inputs, positions, cache)
        return self.unembed(hidden), cache

    def decode_hidden(
        self, inputs: jax.Array, positions: jax.Array, cache: KVCache
    ) -> tuple[jax.Array, KVCache]:
        """`decode` before the vocabulary: a prompt's prefill needs the logits of its last token only."""
        layers = jnp.arange(self.config.num_layers)
        (x, cache), _ = self.layers((self.embedder(inputs), cache), layers, positions, None, True)
        return self.final_norm(x), cache
