import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from modula import SteepestDescent, lift


def main(steps=200, lr=1.6):
    pixels, targets = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
    labels = torch.tensor(targets)

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(32 * 8 * 8, 10),
    )
    network = lift(model, images[:64])
    optimizer = SteepestDescent(network, lr=lr, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)

    for step in range(steps):
        chosen = torch.randint(1400, (64,))
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    right = model.eval()(images[1400:]).argmax(dim=1) == labels[1400:]
    print(f"accuracy on new digits: {right.float().mean().item():.1%}")
    return right.float().mean().item()


if __name__ == "__main__":
    main()
