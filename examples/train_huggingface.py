"""Train a small GPT on text with Hugging Face's Trainer, or with Accelerate, by SteepestDescent.

    pip install "modula-torch[examples,huggingface]"
    python examples/train_huggingface.py  # the Trainer, on the source of Python's standard library
    python examples/train_huggingface.py --loop accelerate
    python examples/train_huggingface.py --data FILE  # on any text
    python examples/train_huggingface.py --model plain  # a GPT of torch's modules, lifted

The Trainer needs a model that takes its inputs by name and returns a loss. `CausalLM` makes one of
any module. `examples/finetune_hf.py` trains models of the transformers library.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from arguments import add_text_options
from plain_gpt import KINDS, build, network_of
from text import Corpus, load, windows
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset
from train_gpt import evaluate
from transformers import Trainer, TrainingArguments

from modula import SteepestDescent


class CausalLM(nn.Module):
    """A model of logits with the inputs and outputs of a Hugging Face model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.model(input_ids)
        if labels is None:
            return {"logits": logits}
        return {"loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}


class Windows(Dataset[dict[str, Tensor]]):
    """Windows of a text, with the next character for each position."""

    def __init__(self, ids: Tensor, context: int) -> None:
        self.inputs, self.labels = windows(ids, context)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.inputs[index], "labels": self.labels[index]}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_text_options(parser)
    parser.add_argument(
        "--loop",
        choices=["trainer", "accelerate"],
        default="trainer",
        help="whose training loop runs (default %(default)s)",
    )
    parser.add_argument(
        "--model",
        choices=KINDS,
        default="modula",
        help="modula's GPT, or one of torch's modules, which is lifted (default %(default)s)",
    )
    parser.add_argument(
        "--lr",
        type=float,
        default=0.1,
        help="peak learning rate: the norm of a step (default %(default)s)",
    )
    parser.add_argument(
        "--batch", type=int, default=12, help="windows of text per step (default %(default)s)"
    )
    parser.add_argument(
        "--accumulate", type=int, default=1, help="batches per step (default %(default)s)"
    )
    parser.add_argument(
        "--cpu", action="store_true", help="train on the CPU even if there is an accelerator"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/huggingface"),
        help="folder of all that the run leaves (default %(default)s)",
    )
    parser.add_argument(
        "--save-every",
        type=int,
        default=500,
        help="steps between checkpoints (default %(default)s)",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint in --out"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> float:
    options = parse(arguments)
    set_seed(options.seed)
    corpus = load(options.data)
    model = build(
        options.model,
        corpus.size,
        context=options.context,
        width=options.width,
        heads=options.heads,
        blocks=options.blocks,
    )
    example, _ = windows(corpus.train[: 2 * options.context + 1], options.context)
    network = network_of(model, example)
    optimizer = SteepestDescent(network, options.lr)  # before the Trainer, which would make AdamW
    schedule = LambdaLR(optimizer, lambda step: max(0.0, 1 - step / options.steps))
    loop = by_trainer if options.loop == "trainer" else by_accelerate
    loop(options, corpus, CausalLM(model), optimizer, schedule)
    validation_loss = evaluate(model, corpus.validation, options.context)
    print(f"validation loss {validation_loss:.4f} nats a character; checkpoints in {options.out}/")
    return validation_loss


def by_trainer(
    options: argparse.Namespace,
    corpus: Corpus,
    model: CausalLM,
    optimizer: SteepestDescent,
    schedule: LambdaLR,
) -> None:
    """Train in the Trainer's loop.

    The norm of a step is the learning rate, so the Trainer's clipping of gradients is switched off.
    """
    settings: dict[str, Any] = {
        "output_dir": str(options.out),
        "max_steps": options.steps,
        "per_device_train_batch_size": options.batch,
        "gradient_accumulation_steps": options.accumulate,
        "max_grad_norm": 0.0,
        "save_steps": options.save_every,
        "logging_steps": 50,
        "report_to": "none",
        "use_cpu": options.cpu,
        "seed": options.seed,
    }
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**settings),
        train_dataset=Windows(corpus.train, options.context),
        optimizers=(optimizer, schedule),
    )
    trainer.train(resume_from_checkpoint=True if options.resume else None)


def by_accelerate(
    options: argparse.Namespace,
    corpus: Corpus,
    model: CausalLM,
    optimizer: SteepestDescent,
    schedule: LambdaLR,
) -> None:
    """Train in a loop written here, in which Accelerate places, scales and accumulates."""
    accelerator = Accelerator(cpu=options.cpu, gradient_accumulation_steps=options.accumulate)
    batches = DataLoader(
        Windows(corpus.train, options.context), options.batch, shuffle=True, drop_last=True
    )
    model, optimizer, batches = accelerator.prepare(model, optimizer, batches)
    # prepared, it would count the steps of every process
    accelerator.register_for_checkpointing(schedule)
    checkpoint = options.out / "accelerate"
    if options.resume:
        accelerator.load_state(str(checkpoint))
    step = schedule.last_epoch
    while step < options.steps:
        for batch in batches:
            with accelerator.accumulate(model):
                accelerator.backward(model(**batch)["loss"])
                optimizer.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                schedule.step()
                step += 1
                if step % options.save_every == 0 or step == options.steps:
                    accelerator.save_state(str(checkpoint))
                if step == options.steps:
                    break


if __name__ == "__main__":
    main()
