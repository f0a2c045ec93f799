"""Train a small convolutional net on scikit-learn's handwritten digits with NumPy alone, and save its weights.

    python examples/digits_weights.py weights.npz [--epochs 12]

conv 3x3 1->16, ReLU, max-pool 2, conv 3x3 16->32, ReLU, max-pool 2, linear 128->10; SGD with momentum on cross-entropy.
The first 1500 digits train; the last 297 are held out and never seen here.
"""
from __future__ import annotations

import argparse

import numpy as np
from sklearn.datasets import load_digits

TRAIN = 1500


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [1797, 1, 8, 8] in 0..1 and labels int32 [1797]."""
    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32).reshape(-1, 1, 8, 8), labels.astype(np.int32)


def patches(x: np.ndarray) -> np.ndarray:
    """The 3x3 neighbourhoods of every pixel, zero-padded: [n, c, h, w] -> [n, h, w, c*9]."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(n, h, w, c * 9)


def conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray):
    """Returns the output [n, o, h, w] and what its backward pass needs."""
    columns = patches(x)
    out = columns @ weight.reshape(len(weight), -1).T + bias
    return out.transpose(0, 3, 1, 2), (columns, x.shape, weight)


def conv_backward(grad: np.ndarray, saved):
    columns, (n, c, h, w), weight = saved
    grad = grad.transpose(0, 2, 3, 1)
    flat = grad.reshape(-1, grad.shape[-1])
    grad_weight = (flat.T @ columns.reshape(len(flat), -1)).reshape(weight.shape)
    spread = (grad @ weight.reshape(len(weight), -1)).reshape(n, h, w, c, 3, 3)
    grad_x = np.zeros((n, c, h + 2, w + 2), np.float32)
    for p in range(3):
        for q in range(3):
            grad_x[:, :, p:p + h, q:q + w] += spread[..., p, q].transpose(0, 3, 1, 2)
    return grad_x[:, :, 1:-1, 1:-1], grad_weight, flat.sum(0)


def relu_pool(x: np.ndarray):
    """ReLU, then the maximum of each 2x2 block."""
    n, c, h, w = x.shape
    blocks = np.maximum(x, 0).reshape(n, c, h // 2, 2, w // 2, 2)
    out = blocks.max((3, 5))
    return out, (blocks, out)


def relu_pool_backward(grad: np.ndarray, saved):
    blocks, out = saved
    hit = (blocks == out[:, :, :, None, :, None]) & (blocks > 0)
    share = hit / np.maximum(hit.sum((3, 5), keepdims=True), 1)
    n, c, h, _, w, _ = blocks.shape
    return (share * grad[:, :, :, None, :, None]).reshape(n, c, h * 2, w * 2).astype(np.float32)


def train(epochs: int, seed: int = 0) -> dict[str, np.ndarray]:
    """The trained weights by name, in PyTorch's layouts."""
    rng = np.random.default_rng(seed)
    scaled = lambda *shape, fan: (rng.standard_normal(shape) * (2 / fan) ** 0.5).astype(np.float32)  # noqa: E731
    p = {"conv1.weight": scaled(16, 1, 3, 3, fan=9), "conv1.bias": np.zeros(16, np.float32),
         "conv2.weight": scaled(32, 16, 3, 3, fan=144), "conv2.bias": np.zeros(32, np.float32),
         "fc.weight": scaled(10, 128, fan=128), "fc.bias": np.zeros(10, np.float32)}
    velocity = {name: np.zeros_like(value) for name, value in p.items()}
    images, labels = digits()
    images, labels = images[:TRAIN], labels[:TRAIN]
    for epoch in range(epochs):
        order, total = rng.permutation(TRAIN), 0.0
        for start in range(0, TRAIN, 50):
            batch = order[start:start + 50]
            x, target = images[batch], labels[batch]
            y1, saved1 = conv(x, p["conv1.weight"], p["conv1.bias"])
            h1, pool1 = relu_pool(y1)
            y2, saved2 = conv(h1, p["conv2.weight"], p["conv2.bias"])
            h2, pool2 = relu_pool(y2)
            flat = h2.reshape(len(x), -1)
            logits = flat @ p["fc.weight"].T + p["fc.bias"]
            logits -= logits.max(1, keepdims=True)
            prob = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            total -= np.log(prob[np.arange(len(x)), target]).sum()
            delta = prob
            delta[np.arange(len(x)), target] -= 1
            delta /= len(x)
            grads = {"fc.weight": delta.T @ flat, "fc.bias": delta.sum(0)}
            back = relu_pool_backward((delta @ p["fc.weight"]).reshape(h2.shape), pool2)
            back, grads["conv2.weight"], grads["conv2.bias"] = conv_backward(back, saved2)
            back = relu_pool_backward(back, pool1)
            _, grads["conv1.weight"], grads["conv1.bias"] = conv_backward(back, saved1)
            for name, grad in grads.items():
                velocity[name] = 0.9 * velocity[name] + grad
                p[name] -= np.float32(0.05) * velocity[name].astype(np.float32)
        print(f"epoch {epoch + 1}/{epochs}: loss {total / TRAIN:.4f}", flush=True)
    return p


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", help="where to write the weights (.npz)")
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()
    np.savez(args.output, **train(args.epochs))


if __name__ == "__main__":
    main()
