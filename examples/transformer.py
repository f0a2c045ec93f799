"""A small transformer that learns to write, letter by letter, from the documents of this project.

    python examples/transformer.py [--steps 1000] [--text FILE ...] [--plot losses.png]
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from plots import plot_losses

import jtc
from jtc import nn, optim

WIDTH, HEADS, LAYERS, CONTEXT, BATCH = 64, 4, 2, 64, 16
DOCS = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))


class Writer(nn.Module):
    """Letters as numbers [n, length] -> scores of the next letter at each place [n, length, letters]."""

    def __init__(self, letters: int):
        super().__init__()
        self.letter, self.place = nn.Embedding(letters, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.layers = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True,
                                       norm_first=True), LAYERS, nn.LayerNorm(WIDTH))
        self.scores = nn.Linear(WIDTH, letters)

    def forward(self, letters):
        length = letters.shape[1]
        x = self.letter(letters) + self.place(jtc.arange(length))
        later = jtc.arange(length) > jtc.arange(length)[:, None]          # what comes later is not seen
        return self.scores(self.layers(x, later))


class Text:
    """A text as numbers, and the letters that they stand for."""

    def __init__(self, files: list[Path]):
        text = "\n".join(file.read_text() for file in files)
        self.letters = sorted(set(text))
        self.numbers = np.array([self.letters.index(c) for c in text])

    def batch(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Pieces of the text [BATCH, CONTEXT], and the letters that follow."""
        starts = rng.integers(0, len(self.numbers) - CONTEXT - 1, BATCH)
        pieces = np.stack([self.numbers[s:s + CONTEXT + 1] for s in starts])
        return pieces[:, :-1], pieces[:, 1:]


def train(steps: int, files: list[Path], lazy: bool = False) -> tuple[list[float], Writer, Text]:
    text, rng = Text(files), np.random.default_rng(0)
    jtc.random.seed(0)
    net = Writer(len(text.letters))
    opt = optim.AdamW(net.parameters(), lr=3e-3)

    def step(x, t):
        loss = nn.functional.cross_entropy(net(x).reshape(-1, len(text.letters)), t.reshape(-1))
        opt.step(loss, max_norm=1.0)
        return loss

    run = step if lazy else jtc.jit(step)
    losses = [run(*map(jtc.array, text.batch(rng))) for _ in range(steps)]
    return [loss.item() for loss in losses], net, text


def write(net: Writer, text: Text, count: int = 300) -> str:
    """`count` letters, each drawn by the scores that the net gives after the ones before."""
    net.eval()
    scores = jtc.jit(lambda letters, place: jtc.softmax(jtc.take(net(letters)[0], place, axis=0)))
    rng, written = np.random.default_rng(0), [int(text.numbers[0])]
    while len(written) <= count:
        seen = written[-CONTEXT:]
        padded = np.array([seen + [0] * (CONTEXT - len(seen))])
        chances = np.float64(scores(padded, np.array(len(seen) - 1)))
        written.append(int(rng.choice(len(text.letters), p=chances / chances.sum())))
    return "".join(text.letters[n] for n in written[1:])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--text", type=Path, nargs="+", default=DOCS, help="files to learn from (docs/*.md)")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the losses of all steps")
    options = parser.parse_args(arguments)
    losses, net, text = train(options.steps, options.text)
    print(f"loss of a letter: {losses[0]:.2f} at first, {np.mean(losses[-20:]):.2f} at last")
    if options.plot:
        plot_losses({"training": losses}, options.plot)
    print(write(net, text))


if __name__ == "__main__":
    main()
