"""A small convolutional net on handwritten digits: export it, and judge what the compiled module answers.

    python examples/digits.py export weights.npz digits.jtc    # the net as a saved graph, batch of 297
    python examples/digits.py inputs digits.npz                # the 297 held-out digits as `x`
    python examples/digits.py score answers.npz                # held-out accuracy of the answers
"""
from __future__ import annotations

import sys

import numpy as np
from digits_weights import TRAIN, digits


def export(weights_path: str, model_path: str) -> None:
    import jtc
    from jtc.nn import functional as F

    w = {name: jtc.array(value) for name, value in np.load(weights_path).items()}

    def net(x):
        x = F.max_pool2d(jtc.relu(F.conv2d(x, w["conv1.weight"], w["conv1.bias"], padding=1)), 2)
        x = F.max_pool2d(jtc.relu(F.conv2d(x, w["conv2.weight"], w["conv2.bias"], padding=1)), 2)
        return F.linear(x.reshape(x.shape[0], -1), w["fc.weight"], w["fc.bias"])

    held_out = digits()[0][TRAIN:]
    jtc.export(net, (held_out,), model_path, name="digits")


def inputs(path: str) -> None:
    np.savez(path, x=digits()[0][TRAIN:])


def score(path: str) -> None:
    with np.load(path) as answers:
        logits = answers[answers.files[0]]
    labels = digits()[1][TRAIN:]
    guesses = logits.argmax(1)
    print("first ten guesses:", *guesses[:10], " labels:", *labels[:10])
    print(f"held-out accuracy: {(guesses == labels).mean():.3f} on {len(labels)} digits")


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:] or ["help"]
    actions = {"export": export, "inputs": inputs, "score": score}
    if verb not in actions:
        sys.exit(__doc__)
    actions[verb](*arguments)
