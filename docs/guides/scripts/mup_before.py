import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

BASE = 32  # the width at which the rate was tuned


class MLP(nn.Module):
    """An MLP in the parametrisation of μP: see table 8 of Yang et al. 2022."""

    def __init__(self, width):
        super().__init__()
        self.width = width
        self.first = nn.Linear(64, width, bias=False)
        self.hidden = nn.Linear(width, width, bias=False)
        self.last = nn.Linear(width, 10, bias=False)
        nn.init.normal_(self.first.weight, std=64**-0.5)
        nn.init.normal_(self.hidden.weight, std=width**-0.5)
        nn.init.normal_(self.last.weight, std=BASE**-0.5)

    def forward(self, x):
        x = F.relu(self.hidden(F.relu(self.first(x))))
        return self.last(x) * BASE / self.width

    def groups(self, lr):
        """The rate of Adam falls with the width in the hidden layer alone."""
        return [
            {"params": [self.first.weight], "lr": lr},
            {"params": [self.hidden.weight], "lr": lr * BASE / self.width},
            {"params": [self.last.weight], "lr": lr},
        ]


def main(steps=100, width=128, lr=1e-2):
    pixels, targets = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32) / 8 - 1
    labels = torch.tensor(targets)

    torch.manual_seed(0)
    model = MLP(width)
    optimizer = torch.optim.AdamW(model.groups(lr), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)

    for step in range(steps):
        chosen = torch.randint(1400, (64,))
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    right = model(images[1400:]).argmax(dim=1) == labels[1400:]
    print(f"accuracy on new digits: {right.float().mean().item():.1%}")
    return right.float().mean().item()


if __name__ == "__main__":
    main()
