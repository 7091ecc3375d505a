"""Models of timm, torchvision, diffusers and peft."""

from __future__ import annotations

from functools import partial
from importlib import import_module

import torch

from benchmarks.lift_zoo.zoo import VOCABULARY, Build, Example, ids, images

_VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2}
TIMM: dict[str, tuple[int, dict[str, object]]] = {
    "resnet18": (64, {}),
    "seresnext26d_32x4d": (64, {}),
    "convnext_atto": (64, {}),
    "convnextv2_atto": (64, {}),
    "efficientnet_b0": (64, {}),
    "mobilenetv3_small_050": (64, {}),
    "regnety_002": (64, {}),
    "densenet121": (64, {}),
    "nfnet_f0": (64, {}),
    "ghostnet_050": (64, {}),
    "mixer_s16_224": (64, {"img_size": 64}),
    "gmlp_ti16_224": (64, {"img_size": 64}),
    "resmlp_12_224": (64, {"img_size": 64}),
    "vit_tiny_patch16_224": (64, {"img_size": 64, **_VIT}),
    "vit_small_patch14_reg4_dinov2": (56, {"img_size": 56, **_VIT}),
    "cait_xxs24_224": (64, {"img_size": 64, **_VIT}),
    "xcit_nano_12_p16_224": (64, {"img_size": 64, **_VIT}),
    "eva02_tiny_patch14_224": (56, {"img_size": 56, **_VIT}),
    "swin_tiny_patch4_window7_224": (
        64,
        {"img_size": 64, "embed_dim": 32, "depths": (2, 2), "num_heads": (1, 2)},
    ),
    "swinv2_cr_tiny_224": (
        64,
        {"img_size": 64, "embed_dim": 32, "depths": (2, 2), "num_heads": (1, 2)},
    ),
    "coatnet_nano_rw_224": (64, {"img_size": 64}),
    "coat_tiny": (64, {"img_size": 64}),
    "lambda_resnet26t": (64, {}),
    "poolformer_s12": (64, {}),
}
"""The size of the images and the options of each."""

TORCHVISION = {
    "resnet18": 64,
    "densenet121": 64,
    "mobilenet_v2": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_1": 64,
    "googlenet": 96,
    "efficientnet_b0": 64,
    "convnext_tiny": 64,
    "swin_t": 64,
}
PEFT = ("lora", "dora", "ia3", "vera", "prefix tuning")


def of_timm() -> dict[str, Build]:
    """Return the builders of timm's models."""
    return {name: partial(_timm, name) for name in TIMM}


def of_torchvision() -> dict[str, Build]:
    """Return the builders of torchvision's models."""
    return {name: partial(_torchvision, name) for name in TORCHVISION}


def of_diffusers() -> dict[str, Build]:
    """Return the builders of diffusers' models."""
    return {"UNet2D": _unet, "AutoencoderKL": _autoencoder, "DiT": _dit, "SD3": _sd3}


def of_peft() -> dict[str, Build]:
    """Return the builders of adapters of peft in a GPT-2."""
    return {kind: partial(_peft, kind) for kind in PEFT}


def _timm(name: str) -> Example:
    timm = import_module("timm")

    size, options = TIMM[name]
    model = timm.create_model(name, pretrained=False, num_classes=10, **options)
    return Example(model, (images(size),))


def _torchvision(name: str) -> Example:
    models = import_module("torchvision.models")

    options: dict[str, object] = {"aux_logits": True, "init_weights": False}
    more = options if name == "googlenet" else {}
    return Example(getattr(models, name)(weights=None, **more), (images(TORCHVISION[name]),))


def _unet() -> Example:
    UNet2DModel = import_module("diffusers").UNet2DModel

    model = UNet2DModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )
    return Example(model, (images(16), torch.tensor([1, 5])))


def _autoencoder() -> Example:
    AutoencoderKL = import_module("diffusers").AutoencoderKL

    return Example(AutoencoderKL(block_out_channels=(32,), norm_num_groups=8), (images(16),))


def _dit() -> Example:
    DiTTransformer2DModel = import_module("diffusers").DiTTransformer2DModel

    model = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        norm_num_groups=1,
        num_embeds_ada_norm=10,
    )
    steps = {"timestep": torch.tensor([1, 5]), "class_labels": torch.tensor([1, 2])}
    return Example(model, (torch.randn(2, 4, 8, 8),), steps)


def _sd3() -> Example:
    SD3Transformer2DModel = import_module("diffusers").SD3Transformer2DModel

    model = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=64,
        out_channels=4,
        pos_embed_max_size=12,
    )
    text = {
        "encoder_hidden_states": torch.randn(2, 5, 32),
        "pooled_projections": torch.randn(2, 64),
    }
    step = {"timestep": torch.tensor([1.0, 0.5])}
    return Example(model, (torch.randn(2, 4, 8, 8),), {**text, **step})


def _peft(kind: str) -> Example:
    peft = import_module("peft")
    transformers = import_module("transformers")

    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=32, n_embd=32, n_layer=2, n_head=2
    )
    layers = {"target_modules": ["c_attn"], "fan_in_fan_out": True}
    adapter = {
        "lora": lambda: peft.LoraConfig(r=4, **layers),
        "dora": lambda: peft.LoraConfig(r=4, use_dora=True, **layers),
        "ia3": lambda: peft.IA3Config(feedforward_modules=[], **layers),
        "vera": lambda: peft.VeraConfig(r=4, **layers),
        "prefix tuning": lambda: peft.PrefixTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=4
        ),
    }[kind]()
    model = peft.get_peft_model(transformers.GPT2LMHeadModel(config), adapter)
    return Example(model, (), {"input_ids": ids(), "use_cache": False})
