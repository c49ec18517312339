"""Simulate a draft context that works on the states of a main one: MTP, EAGLE-3, DFlash, DSpark.

Both contexts are made at once, the main one's states are read out and drafts are sampled on the device, as by
common_speculative_init_result and the common_speculative_impl_draft_* (common/speculative.cpp, 0c1e570).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ctypes import POINTER, Structure, c_bool, c_int32, c_uint32, c_void_p
from dataclasses import dataclass, replace

from launcher.plan.amounts import HOST
from launcher.plan.modes import SplitMode
from launcher.plan.oracle import BufferRow, DraftAnswer, DraftQuestion, Question, Refusal
from launcher.simulate.abi.binding import Binding, BreakdownEntry
from launcher.simulate.rows import assemble_rows
from launcher.simulate.run import MTP_CONTEXT, Simulator, context_parameters, refuse_override

_MTP = "draft-mtp"
_EAGLE3 = "draft-eagle3"
_BLOCK_TYPES = frozenset({"draft-dflash", "draft-dspark"})

_TOP_K = 10  # of every drafter's sampler
_WORD = 4  # bytes of a float and of a token


class _ChainParameters(Structure):
    """struct llama_sampler_chain_params (include/llama.h)."""

    _fields_ = (("no_perf", c_bool),)


class _Functions:
    """What a drafter calls of libllama. Raises AttributeError if the library lacks something."""

    def __init__(self, binding: Binding) -> None:
        declare = binding.cpp_function
        # of C++ only: src/llama-ext.h, src/llama-context.h
        self.set_nextn = declare(
            "_Z26llama_set_embeddings_nextnP13llama_contextbb", None, (c_void_p, c_bool, c_bool)
        )
        self.set_layer_input = declare(
            "_Z30llama_set_embeddings_layer_inpP13llama_contextjb", None, (c_void_p, c_uint32, c_bool)
        )
        self.target_layers = declare(
            "_Z28llama_model_target_layer_idsPK11llama_model", POINTER(c_int32), (c_void_p,)
        )
        self.n_target_layers = declare(
            "_Z30llama_model_target_layer_ids_nPK11llama_model", c_uint32, (c_void_p,)
        )
        self.selector_top_k = declare(
            "_Z33llama_model_dflash_selector_top_kPK11llama_model", c_int32, (c_void_p,)
        )
        self.output_reserve = declare("_ZN13llama_context14output_reserveEi", c_uint32, (c_void_p, c_int32))
        self.sched_reserve = declare("_ZN13llama_context13sched_reserveEv", None, (c_void_p,))
        # of C: include/llama.h
        self.n_embd = declare("llama_model_n_embd", c_int32, (c_void_p,))
        self.n_layer = declare("llama_model_n_layer", c_int32, (c_void_p,))
        self.vocabulary = declare("llama_model_get_vocab", c_void_p, (c_void_p,))
        self.n_tokens = declare("llama_vocab_n_tokens", c_int32, (c_void_p,))
        self.chain = declare("llama_sampler_chain_init", c_void_p, (_ChainParameters,))
        self.add = declare("llama_sampler_chain_add", None, (c_void_p, c_void_p))
        self.top_k = declare("llama_sampler_init_top_k", c_void_p, (c_int32,))
        self.free = declare("llama_sampler_free", None, (c_void_p,))
        self.set_sampler = declare("llama_set_sampler", c_bool, (c_void_p, c_int32, c_void_p))


def simulate_draft(simulator: Simulator, question: DraftQuestion) -> DraftAnswer | Refusal:
    """Return the draft context's rows and what the first batch adds, or why that cannot be known."""
    for each in (question.main, question.draft):
        if each.split_mode is not SplitMode.LAYER:
            reason = f"a draft context under --split-mode {each.split_mode} cannot be simulated"
            return Refusal(reason=reason, model_refused=False)
        if refusal := refuse_override(each):
            return refusal
    try:
        functions = _Functions(simulator.binding)
    except AttributeError as error:
        reason = f"{simulator.binding.engine} cannot be asked about draft contexts: {error}"
        return Refusal(reason=reason, model_refused=False)
    return simulator.guarded(lambda: _Drafter(simulator, functions, question).simulate())


@dataclass(frozen=True, slots=True)
class _Account:
    """What a context holds, by buffer type."""

    breakdown: Mapping[str, BreakdownEntry]
    compute: Mapping[str, int]
    output: Mapping[str, int]


class _Drafter:
    """One simulation of a main context and its drafter."""

    def __init__(self, simulator: Simulator, functions: _Functions, question: DraftQuestion) -> None:
        self.simulator, self.functions, self.question = simulator, functions, question
        self._main_model = 0  # its address

    def simulate(self) -> DraftAnswer | Refusal:
        simulator, main = self.simulator, self.question.main
        with simulator.loaded(main) as model:
            if not model:
                return simulator.refusal()
            with simulator.opened(model, context_parameters(simulator.binding.llama, main)) as context:
                if not context:
                    return simulator.refusal()
                return self._beside(model, context)

    def _beside(self, main_model: int, main_context: int) -> DraftAnswer | Refusal:
        simulator, question = self.simulator, self.question
        self._main_model = main_model
        simulator.reserve(main_model, main_context, question.main.n_parallel)
        before = self._account(main_context)
        with self._draft_model(main_model) as model:
            if not model:
                return simulator.refusal()
            self._read_out_main(main_context, main_model, model)
            after = self._grown(main_context, main_model, question.main, before)
            growth = self._growth(question.main, before, after)
            simulator.log.clear()
            parameters = context_parameters(simulator.binding.llama, question.draft)
            parameters.ctx_type = MTP_CONTEXT if _MTP in question.spec_types else 0
            parameters.ctx_other = main_context
            with self._samplers() as samplers, simulator.opened(model, parameters) as context:
                if not context:
                    return simulator.refusal()
                return self._answer(model, context, samplers, growth)

    @contextmanager
    def _draft_model(self, main_model: int) -> Iterator[int | None]:
        if self.question.shares_model:
            yield main_model
            return
        with self.simulator.loaded(self.question.draft) as model:
            yield model

    @contextmanager
    def _samplers(self) -> Iterator[list[int]]:
        """Make a sampler for each slot; they outlive the context that uses them."""
        made: list[int] = []
        try:
            for _ in range(self.question.draft.n_parallel if self.question.backend_sampling else 0):
                chain = self.functions.chain(_ChainParameters())
                self.functions.add(chain, self.functions.top_k(_TOP_K))
                made.append(chain)
            yield made
        finally:
            for chain in made:
                self.functions.free(chain)

    def _read_out_main(self, context: int, model: int, draft_model: int) -> None:
        """Have the main context give out the states that the drafter works on."""
        functions, types = self.functions, set(self.question.spec_types)
        if _MTP in types:
            functions.set_nextn(context, True, False)
        if types & {_EAGLE3, *_BLOCK_TYPES}:
            layers = functions.target_layers(draft_model)
            last = functions.n_layer(model)
            for index in range(functions.n_target_layers(draft_model)):
                if _EAGLE3 in types and layers[index] == last:
                    functions.set_nextn(context, True, False)
                elif layers[index] <= last:  # beyond it llama-server aborts
                    functions.set_layer_input(context, layers[index], True)

    def _answer(
        self, model: int, context: int, samplers: list[int], growth: tuple[BufferRow, ...]
    ) -> DraftAnswer:
        functions, draft, types = self.functions, self.question.draft, set(self.question.spec_types)
        loaded = self._account(context)
        samples = False
        if types & {_MTP, _EAGLE3, *_BLOCK_TYPES}:
            is_dflash2 = bool(types & _BLOCK_TYPES) and functions.selector_top_k(model) > 0
            functions.set_nextn(context, True, not is_dflash2)
            samples = bool(samplers) and not is_dflash2
        # before there are samplers: with them it writes into the buffer
        rows = self._rows(context)
        output = self._outputs(context, loaded.output, rows)
        if samples:
            for sequence, chain in enumerate(samplers):
                functions.set_sampler(context, sequence, chain)
            output = {name: n_bytes + self._sampled_bytes(model, rows) for name, n_bytes in output.items()}
        functions.sched_reserve(context)
        self.simulator.reserve(model, context, draft.n_parallel)
        after = replace(self._account(context), output=loaded.output)
        breakdown = after.breakdown
        if self.question.shares_model:
            breakdown = {name: replace(entry, model=0) for name, entry in breakdown.items()}
        encoding = self._encoder_bytes(model, context)
        grown = {name: max(n_bytes, encoding) if n_bytes else 0 for name, n_bytes in after.compute.items()}
        return DraftAnswer(
            rows=assemble_rows(draft, breakdown, after.compute, self.simulator.log),
            growth=(*growth, *self._growth(draft, after, replace(after, compute=grown, output=output))),
            engine=self.simulator.binding.engine,
        )

    def _account(self, context: int) -> _Account:
        binding = self.simulator.binding
        return _Account(
            breakdown=binding.breakdown(context),
            compute=binding.compute_bytes(context),
            output=dict(self.simulator.log.output_bytes),
        )

    def _grown(self, context: int, model: int, question: Question, before: _Account) -> _Account:
        output = self._outputs(context, before.output, self.simulator.log.n_outputs_max)
        self.functions.sched_reserve(context)
        self.simulator.reserve(model, context, question.n_parallel)
        return replace(self._account(context), output=output)

    def _rows(self, context: int) -> int:
        """Return the most rows of a batch that the draft context gives out."""
        draft = self.question.draft
        rows = draft.n_parallel * (1 + draft.n_draft)
        if _EAGLE3 in self.question.spec_types:  # its encoder gives out every token of an ubatch
            rows = max(rows, self.simulator.binding.llama.llama_n_ubatch(context))
        return min(rows, self.simulator.log.n_outputs_max)

    def _encoder_bytes(self, model: int, context: int) -> int:
        """Return the most that EAGLE-3's encoder computes in, which no function reserves; else 0."""
        # graph<true> (src/models/eagle3.cpp): states of three layers, perhaps copied, and their projection
        if _EAGLE3 not in self.question.spec_types:
            return 0
        n_states = self.functions.n_target_layers(model) * self.functions.n_embd(self._main_model)
        values: int = 2 * n_states + self.functions.n_embd(model)
        n_tokens: int = self.simulator.binding.llama.llama_n_ubatch(context)
        return _WORD * values * n_tokens

    def _outputs(self, context: int, before: Mapping[str, int], rows: int) -> dict[str, int]:
        """Return the size of the output buffer for so many rows."""
        virtual = self.simulator.virtual
        virtual.host_bytes = 0
        self.functions.output_reserve(context, rows)
        return {name: max(n_bytes, virtual.host_bytes) for name, n_bytes in before.items()}

    def _sampled_bytes(self, model: int, rows: int) -> int:
        # llama_context::output_reserve: logits, probabilities, candidates of every token, and the one sampled
        n_vocab: int = self.functions.n_tokens(self.functions.vocabulary(model))
        return _WORD * rows * (3 * n_vocab + 1)

    def _growth(self, question: Question, before: _Account, after: _Account) -> tuple[BufferRow, ...]:
        """Return by how much compute and output buffers are larger afterwards."""
        places = {device.buffer_name: device.id for device in question.devices}
        names = sorted({*before.compute, *after.compute, *before.output, *after.output})
        return tuple(
            BufferRow(
                where=places.get(name, HOST),
                buffer_type=name,
                weights_bytes=0,
                kv_bytes=0,
                recurrent_bytes=0,
                compute_bytes=max(after.compute.get(name, 0) - before.compute.get(name, 0), 0),
                output_bytes=max(after.output.get(name, 0) - before.output.get(name, 0), 0),
            )
            for name in names
        )
