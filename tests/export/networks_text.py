"""Language models of the transformers package, in small sizes with random weights."""

from __future__ import annotations

from torch import nn

from export.networks import VOCABULARY, Network, boxes, floats, ids, mask, network, positions

SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
DECODER = {**SMALL, "num_key_value_heads": 2, "head_dim": 8, "use_cache": False}
MASKED = {"input_ids": ids("batch", "length"), "attention_mask": mask("batch", "length")}


@network
def bert() -> Network:
    from transformers import BertConfig, BertModel

    inputs = {**MASKED, "token_type_ids": ids("batch", "length", below=2)}
    return Network(BertModel(BertConfig(**SMALL)), inputs)


@network
def bert_eager() -> Network:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(**SMALL, attn_implementation="eager")
    return Network(BertForSequenceClassification(config), MASKED)


@network
def roberta() -> Network:
    from transformers import RobertaConfig, RobertaForTokenClassification

    return Network(RobertaForTokenClassification(RobertaConfig(**SMALL)), MASKED)


@network
def distilbert() -> Network:
    from transformers import DistilBertConfig, DistilBertForQuestionAnswering

    config = DistilBertConfig(
        vocab_size=VOCABULARY, dim=32, n_layers=2, n_heads=4, hidden_dim=48
    )  # fmt: skip
    return Network(DistilBertForQuestionAnswering(config), MASKED)


@network
def layoutlm() -> Network:
    from transformers import LayoutLMConfig, LayoutLMForTokenClassification

    config = LayoutLMConfig(**SMALL, max_2d_position_embeddings=128, num_labels=5)
    inputs = {**MASKED, "bbox": boxes("batch", "length", 4)}
    return Network(LayoutLMForTokenClassification(config), inputs)


@network
def layoutlmv3() -> Network:
    from transformers import LayoutLMv3Config, LayoutLMv3ForTokenClassification

    config = LayoutLMv3Config(
        **SMALL, max_2d_position_embeddings=128, coordinate_size=5, shape_size=6, input_size=32,
        patch_size=16, num_labels=5, rel_2d_pos_bins=8, rel_pos_bins=8,
    )  # fmt: skip
    inputs = {
        **MASKED,
        "bbox": boxes("batch", "length", 4),
        "pixel_values": floats("batch", 3, 32, 32),
    }
    return Network(LayoutLMv3ForTokenClassification(config), inputs)


class WithCache(nn.Module):
    """A decoder whose keys and values go in and come out as tensors, layer by layer."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, position_ids, key0, value0, key1, value1):
        from transformers import DynamicCache

        cache = DynamicCache()
        cache.update(key0, value0, 0)
        cache.update(key1, value1, 1)
        found = self.model(
            input_ids=input_ids, position_ids=position_ids, past_key_values=cache, use_cache=True
        )
        layers = found.past_key_values.layers
        return found.logits, *(part for layer in layers for part in (layer.keys, layer.values))


def _cached(model: nn.Module, heads: int, width: int) -> Network:
    inputs = {
        "input_ids": ids("batch", "length"),
        "position_ids": positions("batch", "length"),
        **{
            f"{part}{layer}": floats("batch", heads, "past", width)
            for layer in range(2)
            for part in ("key", "value")
        },
    }
    return Network(WithCache(model), inputs, {"past": (6, 9), "length": (3, 2)})


@network
def gpt2() -> Network:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, use_cache=False
    )  # fmt: skip
    return Network(GPT2LMHeadModel(config), MASKED)


@network
def gpt2_cached() -> Network:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    return _cached(GPT2LMHeadModel(config), 4, 8)


@network
def llama() -> Network:
    from transformers import LlamaConfig, LlamaForCausalLM

    return Network(LlamaForCausalLM(LlamaConfig(**DECODER)), MASKED)


@network
def llama_cached() -> Network:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**{**DECODER, "use_cache": True}, tie_word_embeddings=True)
    return _cached(LlamaForCausalLM(config), 2, 8)


@network
def llama_eager() -> Network:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**DECODER, attn_implementation="eager")
    return Network(LlamaForCausalLM(config), MASKED)


@network
def qwen2() -> Network:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Network(Qwen2ForCausalLM(Qwen2Config(**DECODER)), MASKED)


@network
def qwen3() -> Network:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Network(Qwen3ForCausalLM(Qwen3Config(**DECODER)), MASKED)


@network
def mistral() -> Network:
    from transformers import MistralConfig, MistralForCausalLM

    return Network(MistralForCausalLM(MistralConfig(**DECODER, sliding_window=4)), MASKED)


@network
def gemma() -> Network:
    from transformers import GemmaConfig, GemmaForCausalLM

    return Network(GemmaForCausalLM(GemmaConfig(**DECODER)), MASKED)


@network
def gemma2() -> Network:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(**DECODER, sliding_window=4, query_pre_attn_scalar=8)
    return Network(Gemma2ForCausalLM(config), MASKED)


@network
def gemma3() -> Network:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(**DECODER, sliding_window=4, query_pre_attn_scalar=8)
    return Network(Gemma3ForCausalLM(config), MASKED)


@network
def mixtral() -> Network:
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(**DECODER, num_local_experts=4, experts_implementation="batched_mm")
    return Network(MixtralForCausalLM(config), MASKED)


@network
def qwen2_moe() -> Network:
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    config = Qwen2MoeConfig(
        **DECODER, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
        shared_expert_intermediate_size=16, experts_implementation="batched_mm",
    )  # fmt: skip
    return Network(Qwen2MoeForCausalLM(config), MASKED)


class Encoder(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, input_ids, attention_mask):
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


class EncodedDecoder(nn.Module):
    """The decoder of a pair, after its encoder's states."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, decoder_input_ids, encoder_hidden_states, attention_mask):
        return self.model(
            decoder_input_ids=decoder_input_ids,
            encoder_outputs=(encoder_hidden_states,),
            attention_mask=attention_mask,
            use_cache=False,
        ).logits


def _t5() -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", decoder_start_token_id=0,
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


@network
def t5_encoder() -> Network:
    return Network(Encoder(_t5()), MASKED)


@network
def t5_decoder() -> Network:
    inputs = {
        "decoder_input_ids": ids("batch", "length"),
        "encoder_hidden_states": floats("batch", "source", 32),
        "attention_mask": mask("batch", "source"),
    }
    return Network(EncodedDecoder(_t5()), inputs, {"source": (9, 6)})


@network
def bart() -> Network:
    from transformers import BartConfig, BartForConditionalGeneration

    config = BartConfig(
        vocab_size=VOCABULARY, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48,
        decoder_ffn_dim=48, max_position_embeddings=64, use_cache=False,
    )  # fmt: skip
    inputs = {**MASKED, "decoder_input_ids": ids("batch", "target")}
    return Network(BartForConditionalGeneration(config), inputs, {"target": (4, 6)})


@network
def mamba() -> Network:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, state_size=4, use_cache=False,
        pad_token_id=0, time_step_rank=2,
    )  # fmt: skip
    return Network(MambaForCausalLM(config), {"input_ids": ids("batch", 6)})
