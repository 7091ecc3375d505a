"""Train a small GPT on text with Lightning, by SteepestDescent in a LightningModule.

    pip install "modula-torch[examples,lightning]"
    python examples/train_lightning.py                # on the source of Python's standard library
    python examples/train_lightning.py --data FILE    # on any text
    python examples/train_lightning.py --model plain  # a GPT of torch's modules, lifted

Lightning runs the loop: it calls the closure and the schedule, accumulates gradients, and writes
checkpoints, from which --resume continues.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from arguments import add_text_options
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from plain_gpt import KINDS, build, network_of
from text import load, windows
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

from modula import SteepestDescent


class LanguageModel(L.LightningModule):
    """A GPT with its loss, its optimizer and its schedule."""

    def __init__(
        self,
        kind: str,
        vocabulary: int,
        context: int,
        width: int,
        heads: int,
        blocks: int,
        lr: float,
        steps: int,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = build(
            kind, vocabulary, context=context, width=width, heads=heads, blocks=blocks
        )
        self.example = torch.arange(context)[None] % vocabulary
        self.lr, self.steps = lr, steps

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss = self.loss(batch)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.log("validation_loss", self.loss(batch), prog_bar=True)

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.model(x).flatten(0, 1), y.flatten())

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        network = network_of(self.model, self.example.to(self.device))
        optimizer = SteepestDescent(network, self.lr)  # the network, not self.parameters()
        schedule = LambdaLR(optimizer, lambda step: max(0.0, 1 - step / self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_text_options(parser)
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
        "--precision",
        default="32-true",
        help='as Lightning names it, such as "bf16-mixed" (default %(default)s)',
    )
    parser.add_argument(
        "--accelerator", default="auto", help="as Lightning names it (default %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/lightning"),
        help="folder of all that the run leaves (default %(default)s)",
    )
    parser.add_argument(
        "--stop-after",
        type=int,
        help="stop after this step, with a checkpoint; the schedule still ends at --steps",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue from the checkpoint in --out"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    options = parse(arguments)
    L.seed_everything(options.seed)
    corpus = load(options.data)
    batches = DataLoader(
        TensorDataset(*windows(corpus.train, options.context)),
        options.batch,
        shuffle=True,
        drop_last=True,
    )
    validation = DataLoader(TensorDataset(*windows(corpus.validation, options.context)), 256)
    model = LanguageModel(
        options.model,
        corpus.size,
        options.context,
        options.width,
        options.heads,
        options.blocks,
        options.lr,
        options.steps,
    )
    trainer = L.Trainer(
        max_steps=options.stop_after or options.steps,
        max_epochs=-1,
        accumulate_grad_batches=options.accumulate,
        precision=options.precision,
        accelerator=options.accelerator,
        devices=1,
        logger=False,
        callbacks=[
            ModelCheckpoint(
                options.out,
                filename="last",
                save_top_k=1,
                enable_version_counter=False,
                save_on_train_epoch_end=True,
            )
        ],
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(
        model, batches, ckpt_path=str(options.out / "last.ckpt") if options.resume else None
    )
    trainer.save_checkpoint(options.out / "last.ckpt")
    trainer.limit_val_batches = 1.0
    (result,) = trainer.validate(model, validation, verbose=False)
    print(
        f"validation loss {result['validation_loss']:.4f} nats a character; checkpoint in "
        f"{options.out}/"
    )
    return dict(result)


if __name__ == "__main__":
    main()
