"""Read the shape of a model out of its config.json, strictly: what is not known is not guessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launcher.errors import UsageError
from launcher.plan.vllm.shape import HeadCache, LatentCache, ModelShape, PartBytes, SplitWidth
from launcher.system.json_object import JsonObject, Malformed

# Attention by heads in every layer. Others (sliding windows in some layers, recurrent states) would be
# counted wrongly, and are refused. Each with its architecture: that is what vLLM chooses its code by.
_BY_HEADS = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}
_LATENT = {
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "kimi_k2": "DeepseekV3ForCausalLM",
}
_WRAPPED = {"kimi_k25": "KimiK25ForConditionalGeneration"}  # the language model is in `text_config`

_ITEM_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_MOST = 1 << 20  # of any dimension; vocabularies have up to 262,144
_MOST_LAYERS = 1024
_MOST_EXPERTS = 1 << 14
_VOCAB_STEP = 64  # vLLM pads a vocabulary to a multiple (DEFAULT_VOCAB_PADDING_SIZE)
_STEP_KEYS = {"group_size", "weight_block_size", "block_structure"}  # of a quantization_config
_MOST_STEP = 1 << 16
_MOST_NARROW = 8  # times than 16 bits: 2 bits a weight


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFiles:
    """What is known of a model beside its config."""

    source: str
    weight_bytes: int
    tower_bytes: int | None = None  # None: nobody says how large the vision encoder is


def shape_of(config: object, files: WeightFiles) -> ModelShape:
    """Return the shape. Raises UsageError for a config that is malformed or of a model nobody counted."""
    try:
        outer = JsonObject(config)
        kind = outer.text("model_type")
        has_tower = outer.has("vision_config") or kind in _WRAPPED
        # Others that wrap a known model have encoders of their own, as for sound.
        inner = outer.object_at("text_config") if kind in _WRAPPED else outer
        _check_known(outer, _WRAPPED if kind in _WRAPPED else _BY_HEADS | _LATENT, files.source)
        _check_known(inner, _BY_HEADS | _LATENT, files.source)
        if has_tower and files.tower_bytes is None:
            raise UsageError(
                f"{files.source} has a vision encoder, and its config.json does not say how large it is",
                hint="launcher plan with a GGUF file of it plans for llama.cpp",
            )
        quantised = next((each for each in (outer, inner) if each.has("quantization_config")), None)
        step = None
        if quantised is not None:
            step = max(_steps(quantised.value("quantization_config")), default=1)
        shape = _Reader(inner, files, step).shape(inner.text("model_type"))
    except Malformed as error:
        raise UsageError(
            f"the config.json of {files.source} cannot be used: {error}", hint="fetch it again"
        ) from error
    if min((*shape.layers, PartBytes(divided=0)), key=lambda part: part.divided).divided < 0:
        raise UsageError(
            f"the files of {files.source} have {files.weight_bytes} bytes, fewer than its config.json says",
            hint="fetch them again",
        )
    return shape


def _check_known(config: JsonObject, known: Mapping[str, str], source: str) -> None:
    """Raise UsageError for a model, or an architecture of it, that is not known."""
    kind = config.text("model_type")
    wrong = [] if kind in known else [kind]
    if not wrong and config.has("architectures"):
        wrong = [each for each in config.texts("architectures") if each != known[kind]]
    if wrong:
        names = ", ".join(sorted(_BY_HEADS | _LATENT))
        raise UsageError(
            f"{source} is a {wrong[0][:40]!r} model, and what vLLM takes is counted for {names} only",
            hint="launcher plan with a GGUF file of it plans for llama.cpp",
        )


def _steps(quantisation: object, depth: int = 4) -> Iterator[int]:
    """Yield the widths of blocks and groups that share a scale."""
    if not isinstance(quantisation, dict) or not depth:
        return
    for key, value in quantisation.items():
        if key in _STEP_KEYS:
            values = value if isinstance(value, list) else [value]
            yield from (each for each in values if isinstance(each, int) and 0 < each <= _MOST_STEP)
        else:
            yield from _steps(value, depth - 1)


class _Reader:
    """Reads one language model's config."""

    def __init__(self, config: JsonObject, files: WeightFiles, step: int | None) -> None:
        self._config = config
        self._step = step  # that a quantisation has one scale for; None: there is no quantisation
        self._files = files
        dtype = config.optional_text("torch_dtype") or config.optional_text("dtype") or "bfloat16"
        if dtype not in _ITEM_BYTES:
            raise Malformed(f"torch_dtype is {dtype[:40]!r}, not one of {', '.join(_ITEM_BYTES)}")
        self._item = _ITEM_BYTES[dtype]

    def shape(self, kind: str) -> ModelShape:
        config = self._config
        n_layers = self._dim("num_hidden_layers", most=_MOST_LAYERS)
        hidden, n_heads = self._dim("hidden_size"), self._dim("num_attention_heads")
        table = self._dim("vocab_size") * hidden * self._item
        tied = config.has("tie_word_embeddings") and config.flag("tie_word_embeddings")
        latent = kind in _LATENT
        attention = self._latent_attention(hidden, n_heads) if latent else self._by_heads(hidden, n_heads)
        n_kv_heads = None if latent else self._n_kv_heads(n_heads)
        cache: LatentCache | HeadCache
        if n_kv_heads is None:
            cache = LatentCache(width=self._dim("kv_lora_rank") + self._dim("qk_rope_head_dim"))
        else:
            head_dim = self._head_dim(hidden, n_heads)
            weights = 2 * head_dim * hidden * self._item
            cache = HeadCache(n_kv_heads=n_kv_heads, head_dim=head_dim, weight_bytes=weights)
        return ModelShape(
            source=self._files.source,
            weight_bytes=self._files.weight_bytes,
            layers=self._layers(n_layers, hidden, attention, table * (1 if tied else 2)),
            embedding_bytes=table,
            head_bytes=0 if tied else table,
            tower_bytes=self._files.tower_bytes or 0,
            cache=cache,
            cache_item_bytes=self._item,
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            max_ctx=config.whole("max_position_embeddings", 1, 1 << 31),
            is_quantised=self._step is not None,
            widths=self._widths(n_layers, hidden, n_heads, latent=latent),
        )

    def _dim(self, key: str, *, most: int = _MOST) -> int:
        return self._config.whole(key, 1, most)

    def _n_kv_heads(self, n_heads: int) -> int:
        return self._config.optional_whole("num_key_value_heads", 1, _MOST) or n_heads

    def _head_dim(self, hidden: int, n_heads: int) -> int:
        given = self._config.optional_whole("head_dim", 1, _MOST)
        if given is None and hidden < n_heads:
            raise self._config.malformed("hidden_size", f"is {hidden}, for {n_heads} heads")
        return given or hidden // n_heads

    def _expert_width(self) -> int:
        return self._config.optional_whole("moe_intermediate_size", 1, _MOST) or self._dim(
            "intermediate_size"
        )

    def _widths(self, n_layers: int, hidden: int, n_heads: int, *, latent: bool) -> tuple[SplitWidth, ...]:
        is_moe, _, _ = self._experts(n_layers, hidden)
        value = self._dim("v_head_dim") if latent else self._head_dim(hidden, n_heads)
        widths = {n_heads * value}
        widths |= {self._expert_width()} if any(is_moe) else set()
        widths |= {self._dim("intermediate_size")} if not all(is_moe) else set()
        table = -(-self._dim("vocab_size") // _VOCAB_STEP) * _VOCAB_STEP
        in_steps = (SplitWidth(width=width, step=self._step or 1) for width in sorted(widths))
        return (*in_steps, SplitWidth(width=table))

    def _latent_attention(self, hidden: int, n_heads: int) -> PartBytes:
        """MLA: the projections down are whole on every rank (vllm deepseek_v2.py, ReplicatedLinear)."""
        rope, latent = self._dim("qk_rope_head_dim"), self._dim("kv_lora_rank")
        head, value = self._dim("qk_nope_head_dim"), self._dim("v_head_dim")
        q_rank = self._config.optional_whole("q_lora_rank", 1, _MOST)
        query = n_heads * (head + rope) * (q_rank or hidden)
        divided = query + latent * n_heads * (head + value) + n_heads * value * hidden
        whole = hidden * (latent + rope) + hidden * (q_rank or 0)
        return PartBytes(divided=divided * self._item, whole=whole * self._item)

    def _by_heads(self, hidden: int, n_heads: int) -> PartBytes:
        width = self._head_dim(hidden, n_heads) * (2 * n_heads + 2 * self._n_kv_heads(n_heads))
        return PartBytes(divided=width * hidden * self._item)

    def _layers(self, n_layers: int, hidden: int, attention: PartBytes, tables: int) -> tuple[PartBytes, ...]:
        """Divide the bytes of the files among the layers: dense ones by formula, the rest to the experts."""
        # The sum is the files', however they are quantised: the formula decides only how layers of two kinds
        # share it, which matters to pipeline stages alone.
        is_moe, router, n_experts = self._experts(n_layers, hidden)
        dense = 0 if all(is_moe) else 3 * hidden * self._dim("intermediate_size") * self._item
        mlp = dense if any(is_moe) else 0
        parts = [
            attention + (PartBytes(divided=0, whole=router) if moe else PartBytes(divided=mlp))
            for moe in is_moe
        ]
        rest = self._files.weight_bytes - (self._files.tower_bytes or 0) - tables
        rest -= sum(part.divided + part.whole for part in parts)
        experts = n_experts * 3 * hidden * self._expert_width() * self._item if any(is_moe) else 0
        self._check_whole(rest, sum(experts if moe else dense - mlp for moe in is_moe))
        shares = is_moe if any(is_moe) else [True] * n_layers
        each = PartBytes(divided=-(-rest // sum(shares)))
        return tuple(part + each if takes else part for part, takes in zip(parts, shares, strict=True))

    def _check_whole(self, rest: int, needed: int) -> None:
        """Raise UsageError for files that lack what the formulas count, or have it narrower than vLLM does.

        Of 32 bits vLLM makes 16, so those may be what the files have.
        """
        have = self._files.weight_bytes - (self._files.tower_bytes or 0)
        least = (have - rest + needed) * 2 // self._item
        least, how = (least, "without") if self._step is None else (least // _MOST_NARROW, "with any")
        if have < least:
            raise UsageError(
                f"the files of {self._files.source} have {have} bytes, fewer than its config.json says: "
                f"{least} {how} quantisation",
                hint="fetch all of its files; one that is quantised says so in quantization_config",
            )

    def _experts(self, n_layers: int, hidden: int) -> tuple[list[bool], int, int]:
        """Return which layers have experts, the bytes of a router, whole on every rank, and their number."""
        for key in ("n_routed_experts", "num_local_experts", "num_experts"):
            n_experts = self._config.optional_whole(key, 0, _MOST_EXPERTS)
            if n_experts:
                first = self._config.optional_whole("first_k_dense_replace", 0, n_layers) or 0
                router = n_experts * hidden * self._item
                return [index >= first for index in range(n_layers)], router, n_experts
        return [False] * n_layers, 0, 0
