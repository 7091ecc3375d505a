import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from modula import Linear, ReLU


def main(steps=100, width=128, lr=0.4):
    pixels, targets = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32) / 8 - 1
    labels = torch.tensor(targets)

    torch.manual_seed(0)
    model = 4 * Linear(10, width) @ ReLU() @ Linear(width, width) @ ReLU() @ Linear(width, 64)

    for step in range(steps):
        chosen = torch.randint(1400, (64,))
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        update = model.dualize(model.gradient(loss))
        rate = lr * (1 - step / steps)
        model.weights -= rate * update

    right = model(images[1400:]).argmax(dim=1) == labels[1400:]
    print(f"accuracy on new digits: {right.float().mean().item():.1%}")
    return right.float().mean().item()


if __name__ == "__main__":
    main()
