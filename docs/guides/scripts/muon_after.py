import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from modula import SteepestDescent, lift


class Reader(nn.Module):
    """Reads an image as 64 tokens, one for each pixel's brightness."""

    def __init__(self, width=64):
        super().__init__()
        self.embed = nn.Embedding(17, width)
        self.positions = nn.Parameter(0.02 * torch.randn(64, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, 0.0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, pixels):
        return self.head(self.blocks(self.embed(pixels) + self.positions).mean(dim=1))


def main(steps=100, lr=0.2):
    pixels, targets = load_digits(return_X_y=True)
    images, labels = torch.tensor(pixels).long(), torch.tensor(targets)

    torch.manual_seed(0)
    model = Reader()
    optimizer = SteepestDescent(lift(model, images[:4]), lr=lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)

    for step in range(steps):
        chosen = torch.randint(1400, (32,))
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    with torch.no_grad():
        right = model(images[1400:]).argmax(dim=1) == labels[1400:]
    print(f"accuracy on new digits: {right.float().mean().item():.1%}")
    return right.float().mean().item()


if __name__ == "__main__":
    main()
