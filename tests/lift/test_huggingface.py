"""Models of transformers, tiny and random: each tensor of two axes or more has its use's norm."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import modula
from modula import SteepestDescent
from tests.helpers import close
from tests.lift.models import fall_over_promise

transformers = pytest.importorskip("transformers")

VOCABULARY = 31
MATRIX, TIED = "RMS → RMS", "RMS → RMS and RMS rows"
Inputs = dict[str, object]
Built = tuple[nn.Module, Inputs]


def ids(seed: int = 0) -> Tensor:
    return torch.randint(0, VOCABULARY, (2, 6), generator=torch.Generator().manual_seed(seed))


def gpt2() -> Built:
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=8,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config), {"input_ids": ids(), "use_cache": False}


def llama() -> Built:
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return transformers.LlamaForCausalLM(config), {"input_ids": ids(), "use_cache": False}


def phi3() -> Built:
    config = transformers.Phi3Config(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
    )
    return transformers.Phi3ForCausalLM(config), {"input_ids": ids(), "use_cache": False}


def bert() -> Built:
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=8,
    )
    return transformers.BertForMaskedLM(config), {"input_ids": ids()}


def t5() -> Built:
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
    )
    inputs = {"input_ids": ids(), "decoder_input_ids": ids(1), "use_cache": False}
    return transformers.T5ForConditionalGeneration(config), inputs


def vit() -> Built:
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=16,
        patch_size=8,
    )
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return transformers.ViTForImageClassification(config), {"pixel_values": pixels}


def mixtral() -> Built:
    config = transformers.MixtralConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=3,
    )
    return transformers.MixtralForCausalLM(config), {"input_ids": ids(), "use_cache": False}


def mamba() -> Built:
    config = transformers.MambaConfig(
        vocab_size=VOCABULARY, hidden_size=16, state_size=4, num_hidden_layers=1
    )
    return transformers.MambaForCausalLM(config), {"input_ids": ids(), "use_cache": False}


def whisper() -> Built:
    config = transformers.WhisperConfig(
        vocab_size=VOCABULARY,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_source_positions=8,
        max_target_positions=8,
        num_mel_bins=5,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    spectrogram = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    inputs = {"input_features": spectrogram, "decoder_input_ids": ids(), "use_cache": False}
    return transformers.WhisperForConditionalGeneration(config), inputs


EXPECTED: dict[Callable[[], Built], dict[str, str]] = {
    gpt2: {
        r".*wte\.weight": TIED,
        r".*wpe\.weight": "RMS rows",
        r".*c_attn\.weight": "3 blocks of RMS → RMS, [in, out]",
        r".*(c_proj|c_fc)\.weight": "RMS → RMS, [in, out]",
    },
    llama: {r".*embed_tokens\.weight": "RMS rows", r".*(proj|head)\.weight": MATRIX},
    phi3: {
        r".*embed_tokens\.weight": "RMS rows",
        r".*qkv_proj\.weight": "16+8+8 blocks of RMS → RMS",
        r".*gate_up_proj\.weight": "2 blocks of RMS → RMS",
        r".*(o_proj|down_proj|head)\.weight": MATRIX,
    },
    bert: {
        r".*word_embeddings\.weight": TIED,
        r".*(position|token_type)_embeddings\.weight": "RMS rows",
        r".*(query|key|value|dense)\.weight": MATRIX,
    },
    t5: {
        r"shared\.weight": TIED,
        r".*relative_attention_bias\.weight": "RMS rows",
        r".*\.(q|k|v|o|wi|wo)\.weight": MATRIX,
    },
    vit: {
        r".*(cls_token|position_embeddings)": "RMS rows",
        r".*patch_embeddings\.projection\.weight": "RMS → RMS, flattened",
        r".*weight": MATRIX,
    },
    mixtral: {
        r".*embed_tokens\.weight": "RMS rows",
        r".*gate_up_proj": "each 2 blocks of RMS → RMS",
        r".*down_proj": "each RMS → RMS",
        r".*weight": MATRIX,
    },
    mamba: {
        r".*embeddings\.weight": TIED,
        r".*A_log": "Linf rows",
        r".*conv1d\.weight": "32 blocks of taps of RMS → RMS",
        r".*in_proj\.weight": "2 blocks of RMS → RMS",
        r".*x_proj\.weight": "1+4+4 blocks of RMS → RMS",
        r".*(dt_proj|out_proj)\.weight": MATRIX,
    },
    whisper: {
        r".*embed_tokens\.weight": TIED,
        r".*embed_positions\.weight": "RMS rows",
        r".*conv[12]\.weight": "taps of RMS → RMS",
        r".*weight": MATRIX,
    },
}


@pytest.fixture(scope="module", params=EXPECTED, ids=lambda build: build.__name__)
def lifted(request) -> tuple[Callable[[], Built], modula.Lifted, Inputs]:
    torch.manual_seed(0)
    model, inputs = request.param()
    # at its initial weights a state-space model's time step hardly matters, and S misleads
    how = "drawn" if request.param is mamba else "auto"
    return request.param, modula.lift(model.train(False), calibrate=how, **inputs), inputs


def test_every_tensor_of_two_or_more_axes_gets_the_norm_of_its_use(lifted):
    build, net, _ = lifted
    for row in net.report():
        if len(row.shape) > 1 and row.norm_claim != "unused":
            patterns = EXPECTED[build].items()
            expected = next((norm for name, norm in patterns if re.fullmatch(name, row.name)), None)
            assert row.norm == expected, row.name


def test_every_other_parameter_is_a_bias_or_a_gain(lifted):
    _, net, _ = lifted
    assert {row.norm for row in net.report() if len(row.shape) < 2} <= {"RMS", "Linf"}


def test_every_trained_parameter_has_a_row(lifted):
    _, net, _ = lifted
    trained = [name for name, p in net.torch_module.named_parameters() if p.requires_grad]
    assert [row.name for row in net.report()] == trained


def test_only_biases_of_keys_are_left_out(lifted):
    _, net, _ = lifted
    left_out = [row.name for row in net.report() if "rounding" in row.warning]
    assert all(re.fullmatch(r".*(key|k_proj|k)\.bias", name) for name in left_out)


def test_the_report_fits_the_screen(lifted):
    _, net, _ = lifted
    assert max(map(len, str(net).splitlines())) <= 120


def test_twenty_steps_lower_the_loss(lifted):
    _, net, inputs = lifted
    optimizer = SteepestDescent(net, lr=0.02)
    losses = []
    for _ in range(20):
        logits = net(**inputs).logits
        target = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
        optimizer.zero_grad()
        loss = (logits - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def in_float64(value: object) -> object:
    is_real = isinstance(value, Tensor) and value.is_floating_point()
    return value.double() if is_real else value


@pytest.mark.parametrize("build", EXPECTED, ids=lambda build: build.__name__)
def test_a_short_step_lowers_the_loss_by_its_dual_norm(build):
    torch.manual_seed(0)
    model, inputs = build()
    inputs = {name: in_float64(value) for name, value in inputs.items()}
    if build is mixtral:
        model.set_experts_implementation("eager")  # grouped products take no float64
    net = modula.lift(model.train(False).double(), calibrate="drawn", **inputs)
    shape, source = net(**inputs).logits.shape, torch.Generator().manual_seed(1)
    target = torch.randn(shape, generator=source, dtype=torch.float64)
    fall = fall_over_promise(net, lambda: (net(**inputs).logits - target).square().mean())
    close(fall, 1.0, rtol=1e-2)
