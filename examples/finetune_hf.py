"""Train or fine-tune a model of the transformers library on text, lifted, in the Trainer's loop.

    pip install "modula-torch[examples,huggingface]"
    # a small GPT-2 from random weights, on the source of Python's standard library
    python examples/finetune_hf.py --out runs/base
    # the same with Llama's architecture
    python examples/finetune_hf.py --architecture llama --out runs/llama
    # fine-tune the result on any text: all weights, or factors of low rank beside frozen weights
    python examples/finetune_hf.py --start runs/base --data FILE
    python examples/finetune_hf.py --start runs/base --data FILE --lora 8

Tokens are bytes, so that every text has the same 256. The model is the library's own, unchanged:
`modula.lift` gives it norms, and the Trainer makes the optimizer from the network, by
`optimizer_cls_and_kwargs`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from arguments import add_text_options
from text import read, windows
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.pytorch_utils import Conv1D

from modula import SteepestDescent, lift

MODELS: dict[str, type[PreTrainedModel]] = {"gpt2": GPT2LMHeadModel, "llama": LlamaForCausalLM}
ADAPTED = {"gpt2": ("c_attn", "c_fc"), "llama": ("q_proj", "v_proj", "up_proj")}
"""The modules that get factors of low rank, by the last part of their names."""


class Windows(Dataset[dict[str, Tensor]]):
    """Windows of a text. The library's models shift the labels themselves."""

    def __init__(self, ids: Tensor, context: int) -> None:
        self.inputs, _ = windows(ids, context)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.inputs[index], "labels": self.inputs[index]}


class LowRank(nn.Module):
    """A frozen linear map W plus a trained one of low rank, W + B·A.

    Args:
        frozen: the linear map, which is left as it is.
        rank: of B·A.

    Source: Hu et al. 2021 (arXiv:2106.09685), section 4.1.
    """

    def __init__(self, frozen: nn.Linear | Conv1D, rank: int) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        shape = frozen.weight.shape
        fan_out, fan_in = shape if isinstance(frozen, nn.Linear) else shape[::-1]
        self.A = nn.Parameter(torch.randn(rank, fan_in) / math.sqrt(fan_in))
        self.B = nn.Parameter(torch.zeros(fan_out, rank))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.frozen(x) + F.linear(F.linear(x, self.A), self.B)
        return out


def adapt(model: nn.Module, suffixes: Sequence[str], rank: int) -> None:
    """Freeze a model, and put factors of low rank beside the modules with these names."""
    model.requires_grad_(False)
    for path, module in list(model.named_modules()):
        parent, _, name = path.rpartition(".")
        if name in suffixes and isinstance(module, (nn.Linear, Conv1D)):
            setattr(model.get_submodule(parent), name, LowRank(module, rank))


def configuration(options: argparse.Namespace) -> PretrainedConfig:
    """Return the configuration of a small model of bytes."""
    if options.architecture == "llama":
        return LlamaConfig(
            vocab_size=256,
            hidden_size=options.width,
            intermediate_size=3 * options.width,
            num_hidden_layers=options.blocks,
            num_attention_heads=options.heads,
            num_key_value_heads=max(1, options.heads // 2),
            max_position_embeddings=options.context,
            use_cache=False,
        )
    return GPT2Config(
        vocab_size=256,
        n_embd=options.width,
        n_layer=options.blocks,
        n_head=options.heads,
        n_positions=options.context,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
    )


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_text_options(parser, steps=1000, unit="bytes")
    parser.add_argument(
        "--architecture",
        choices=list(MODELS),
        default="gpt2",
        help="of a model from random weights (default %(default)s)",
    )
    parser.add_argument(
        "--start", type=Path, help="folder of a model that this script saved, to begin with"
    )
    parser.add_argument(
        "--lora",
        type=int,
        default=0,
        metavar="RANK",
        help="freeze all weights, and train factors of this rank beside them (default: train all)",
    )
    parser.add_argument(
        "--lr",
        type=float,
        help="peak learning rate: the norm of a step (by default 0.1, with --lora 0.01)",
    )
    parser.add_argument(
        "--batch", type=int, default=12, help="windows of text per step (default %(default)s)"
    )
    parser.add_argument(
        "--cpu", action="store_true", help="train on the CPU even if there is an accelerator"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/finetune"),
        help="folder of the model at the end (default %(default)s)",
    )
    options = parser.parse_args(given)
    if options.lr is None:
        options.lr = 0.01 if options.lora else 0.1
    return options


def main(given: Sequence[str] | None = None) -> tuple[float, float]:
    """Train, save the model, and return the validation loss before and after."""
    options = parse(given)
    set_seed(options.seed)
    ids = torch.tensor(list(read(options.data).encode()))
    split = len(ids) - len(ids) // 10
    training = Windows(ids[:split], options.context)
    validation = Windows(ids[split:], options.context)

    model = load(options)
    if options.lora:
        adapt(model, ADAPTED[model.config.model_type], options.lora)
    net = lift(model, input_ids=training.inputs[:2])
    print(net)

    trainer = Trainer(
        model=model,
        args=TrainingArguments(**settings(options)),
        train_dataset=training,
        eval_dataset=validation,
        optimizer_cls_and_kwargs=(SteepestDescent, {"model": net, "lr": options.lr}),
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    if options.lora:
        merge(model)
    model.save_pretrained(options.out)
    print(f"validation loss {before:.4f} before and {after:.4f} after, in nats a byte")
    print(f"model in {options.out}/")
    return before, after


def load(options: argparse.Namespace) -> PreTrainedModel:
    if options.start:
        return AutoModelForCausalLM.from_pretrained(options.start)
    return MODELS[options.architecture](configuration(options))


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the Trainer's settings: its own progress bar, and a rate that falls to zero.

    The norm of a step is the learning rate, so clipping of gradients is switched off.
    """
    return {
        "output_dir": str(options.out),
        "max_steps": options.steps,
        "per_device_train_batch_size": options.batch,
        "per_device_eval_batch_size": 64,
        "lr_scheduler_type": "linear",
        "max_grad_norm": 0.0,
        "logging_steps": 50,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": options.cpu,
        "seed": options.seed,
    }


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Add each B·A to the frozen weight beside it, and put the linear map back in its place."""
    for path, module in list(model.named_modules()):
        if isinstance(module, LowRank):
            product = module.B @ module.A
            stored = product if isinstance(module.frozen, nn.Linear) else product.mT
            module.frozen.weight.add_(stored)
            model.set_submodule(path, module.frozen)


if __name__ == "__main__":
    main()
