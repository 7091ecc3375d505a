"""Models of transformers, by their type, in tiny configurations."""

from __future__ import annotations

import inspect
import os
from functools import partial
from importlib import import_module

import torch
from torch import nn

from benchmarks.lift_zoo.zoo import VOCABULARY, Build, Example, ids, images

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SMALL: dict[str, object] = {
    **dict.fromkeys(
        ["hidden_size", "d_model", "n_embd", "embedding_size", "word_embed_proj_dim"], 32
    ),
    **dict.fromkeys(["encoder_layers", "decoder_layers", "num_hidden_layers", "num_layers"], 2),
    **dict.fromkeys(["n_layer", "n_layers", "num_decoder_layers"], 2),
    **dict.fromkeys(["num_attention_heads", "n_head", "num_heads", "n_heads"], 4),
    **dict.fromkeys(["encoder_attention_heads", "decoder_attention_heads"], 4),
    **dict.fromkeys(["intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim"], 48),
    **dict.fromkeys(["d_ff", "n_inner", "hidden_dim"], 48),
    **dict.fromkeys(["max_position_embeddings", "n_positions", "max_target_positions"], 64),
    **dict.fromkeys(["num_local_experts", "num_experts", "n_routed_experts"], 4),
    **dict.fromkeys(["qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "head_dim"], 8),
    **dict.fromkeys(["q_lora_rank", "kv_lora_rank", "projection_dim"], 16),
    "vocab_size": VOCABULARY,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "dim": 32,
    "d_kv": 8,
    "state_size": 8,
    "image_size": 32,
    "patch_size": 8,
    "num_mel_bins": 20,
    "max_source_positions": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
"""Sizes by the names that configurations have for them; each model takes those that it knows."""

LANGUAGE = """
gpt2 llama mistral qwen2 qwen3 gemma gemma2 phi phi3 falcon gpt_neox gptj gpt_neo bloom opt mpt
starcoder2 stablelm olmo2 cohere granite codegen ctrl openai-gpt xglm biogpt mixtral qwen2_moe
olmoe mamba falcon_mamba rwkv jamba
"""
MASKED = """
bert roberta albert electra distilbert deberta deberta-v2 mobilebert camembert mpnet funnel
convbert fnet nystromformer megatron-bert squeezebert
"""
PAIRS = """
t5 mt5 umt5 bart mbart pegasus marian m2m_100 led blenderbot longt5
"""
VISION = """
vit deit beit dinov2 dinov3_vit ijepa bit resnet regnet segformer pvt poolformer
"""
SPEECH = """
wav2vec2 hubert wavlm sew unispeech
"""

MORE: dict[str, dict[str, object]] = {
    "rwkv": {"attention_hidden_size": 32, "rescale_every": 0},  # it would write its weights
    "gptj": {"rotary_dim": 8},
    "codegen": {"rotary_dim": 8},
    "led": {"attention_window": 8, "max_encoder_position_embeddings": 64},
    "mpt": {"max_seq_len": 64},
    "longt5": {"local_radius": 4, "global_block_size": 4},
}


def examples() -> dict[str, Build]:
    """Return the builders of all models, by type."""
    language = {kind: partial(_language, kind) for kind in LANGUAGE.split()}
    masked = {kind: partial(_masked, kind) for kind in MASKED.split()}
    pairs = {kind: partial(_pair, kind) for kind in PAIRS.split()}
    vision = {kind: partial(_vision, kind) for kind in VISION.split()}
    speech = {kind: partial(_speech, kind) for kind in SPEECH.split()}
    return {
        **language,
        **masked,
        **pairs,
        **vision,
        **speech,
        "whisper": _whisper,
        "clip": _clip,
        "perceiver": _perceiver,
    }


def _config(kind: str, **sizes: object) -> object:
    """The default configuration of a type of models, in small."""
    transformers = import_module("transformers")

    config = transformers.AutoConfig.for_model(kind)
    _shrink(config)
    for name, value in {**MORE.get(kind, {}), **sizes}.items():
        setattr(config, name, value)
    return config


def _shrink(config: object) -> None:
    transformers = import_module("transformers")

    for name, size in SMALL.items():
        is_taken = isinstance(getattr(config, name, None), int) or name == "pad_token_id"
        is_computed = isinstance(getattr(type(config), name, None), property)
        if is_taken and not is_computed:
            setattr(config, name, size)
    for inner in vars(config).values():
        if isinstance(inner, transformers.PretrainedConfig):
            _shrink(inner)
    kinds = getattr(config, "layer_types", None)
    if kinds and not isinstance(getattr(type(config), "layer_types", None), property):
        kept = list(dict.fromkeys(kinds))
        kept += kept[:1] if len(kept) < 2 else []
        config.num_hidden_layers, config.layer_types = len(kept), kept  # type: ignore[attr-defined] # of this configuration


def _with_ids(model: nn.Module, **more: object) -> Example:
    takes = inspect.signature(model.forward).parameters
    cache = {"use_cache": False} if "use_cache" in takes else {}
    return Example(model.eval(), (), {"input_ids": ids(), **cache, **more})


def _language(kind: str) -> Example:
    transformers = import_module("transformers")

    return _with_ids(transformers.AutoModelForCausalLM.from_config(_config(kind)))


def _masked(kind: str) -> Example:
    transformers = import_module("transformers")

    return _with_ids(transformers.AutoModelForMaskedLM.from_config(_config(kind)))


def _pair(kind: str) -> Example:
    transformers = import_module("transformers")

    model = transformers.AutoModelForSeq2SeqLM.from_config(_config(kind))
    return _with_ids(model, decoder_input_ids=ids())


def _vision(kind: str) -> Example:
    transformers = import_module("transformers")

    config = _config(kind)
    model = transformers.AutoModel.from_config(config)
    size = getattr(config, "image_size", 64)
    return Example(
        model.eval(), (), {"pixel_values": images(size if isinstance(size, int) else 64)}
    )


def _speech(kind: str) -> Example:
    transformers = import_module("transformers")

    model = transformers.AutoModel.from_config(_config(kind))
    return Example(model.eval(), (), {"input_values": torch.randn(2, 2000)})


def _whisper() -> Example:
    transformers = import_module("transformers")

    model = transformers.WhisperForConditionalGeneration(_config("whisper"))
    inputs = {"input_features": torch.randn(2, 20, 32), "decoder_input_ids": ids()}
    return Example(model.eval(), (), {**inputs, "use_cache": False})


def _clip() -> Example:
    transformers = import_module("transformers")

    model = transformers.CLIPModel(_config("clip"))
    return Example(model.eval(), (), {"input_ids": ids(), "pixel_values": images()})


def _perceiver() -> Example:
    transformers = import_module("transformers")

    sizes = {"num_latents": 8, "d_latents": 32, "num_self_attends_per_block": 2}
    heads = {"num_self_attention_heads": 4, "num_cross_attention_heads": 4}
    config = _config("perceiver", **sizes, **heads, qk_channels=32, v_channels=32)
    model = transformers.PerceiverForMaskedLM(config)
    return Example(model.eval(), (), {"inputs": ids(length=64)})
