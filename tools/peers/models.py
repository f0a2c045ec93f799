"""Workloads of whole networks: ResNet-50, a transformer block, and training steps of these, an MLP and an LSGAN."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jtc.tools.peers.workload import Arrays, Workload, normal


def workloads(tiny: bool) -> Iterator[Workload]:
    net = ResNet(((1, 4, 1), (1, 8, 2)), 4, 24, 10) if tiny else ResNet()
    block = Block(2, 8, 16, 2) if tiny else Block()
    gan = Gan((6, 8, 4, 3), 2, 3) if tiny else Gan()
    for batch in (1, 2) if tiny else (1, 8):
        yield net.inference(batch)
    yield block.forward()
    yield mlp((12, 16, 16, 5), 8) if tiny else mlp((784, 512, 512, 10), 128)
    yield net.training(2 if tiny else 8)
    yield gan.training()
    yield block.training()
    for batch in (1, 2) if tiny else (1, 8):
        yield net.inference(batch).in_bf16()
    yield block.forward().in_bf16()
    yield block.training().in_bf16()
    yield net.training(2 if tiny else 8).in_bf16()


# ------------------------------------------------------------------------------------------------ MLP
def mlp(widths: Sequence[int], batch: int) -> Workload:
    """Three layers with biases, cross-entropy, gradient descent without momentum."""
    layers = range(len(widths) - 1)

    def make(rng: np.random.Generator) -> Arrays:
        arrays = {"x": normal(rng, batch, widths[0]), "y": rng.integers(0, widths[-1], batch)}
        for i in layers:
            arrays[f"w{i}"] = normal(rng, widths[i + 1], widths[i], scale=(2 / widths[i]) ** 0.5)
            arrays[f"b{i}"] = np.zeros(widths[i + 1], np.float32)
        return arrays

    def objective(F: Any, t: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        x = t["x"]
        for i in layers:
            x = F.linear(x, t[f"w{i}"], t[f"b{i}"])
            x = F.relu(x) if i < len(layers) - 1 else x
        return F.cross_entropy(x, t["y"]), {}

    return Workload(f"mlp_train_b{batch}", "training", "training steps", make, lr=1e-3,
                    phases=[(objective, [f"{kind}{i}" for i in layers for kind in "wb"])])


# ------------------------------------------------------------------------------------------------ ResNet-50
@dataclass(frozen=True)
class ResNet:
    """ResNet-50 v1.5 (He et al., 2015; the stride is in the 3x3 convolution).

    stages  blocks, width and stride of each;  stem: channels of the first convolution;  size: of the image
    """

    stages: tuple[tuple[int, int, int], ...] = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
    stem: int = 64
    size: int = 224
    classes: int = 1000

    def convolutions(self) -> Iterator[tuple[str, tuple[int, int, int, int], int, int]]:
        """Name, shape of the weights, stride and padding of each, in the order in which they are used."""
        yield "p.stem", (self.stem, 3, 7, 7), 2, 3
        inputs = self.stem
        for number, (blocks, width, stride) in enumerate(self.stages):
            for block in range(blocks):
                name, step = f"p.{number}.{block}", stride if block == 0 else 1
                yield f"{name}.a", (width, inputs, 1, 1), 1, 0
                yield f"{name}.b", (width, width, 3, 3), step, 1
                yield f"{name}.c", (4 * width, width, 1, 1), 1, 0
                if block == 0:
                    yield f"{name}.short", (4 * width, inputs, 1, 1), step, 0
                inputs = 4 * width

    @property
    def features(self) -> int:
        return 4 * self.stages[-1][1]

    def make(self, rng: np.random.Generator, batch: int, train: bool) -> Arrays:
        arrays = {"x": normal(rng, batch, 3, self.size, self.size)}
        if train:
            arrays["y"] = rng.integers(0, self.classes, batch)
        for name, shape, _, _ in self.convolutions():
            count = shape[0]
            arrays[f"{name}.w"] = normal(rng, *shape, scale=(2 / (shape[1] * shape[2] * shape[3])) ** 0.5)
            # The last norm of a block begins small, so that values stay near 1 through all layers.
            arrays[f"{name}.g"] = (0.2 if name.endswith(".c") else 1.0) + normal(rng, count, scale=0.02)
            arrays[f"{name}.b"] = normal(rng, count, scale=0.1)
            if not train:
                arrays[f"{name}.m"] = normal(rng, count, scale=0.1)
                arrays[f"{name}.v"] = rng.random(count, dtype=np.float32) + np.float32(0.5)
        arrays["p.fc.w"] = normal(rng, self.classes, self.features, scale=self.features**-0.5)
        arrays["p.fc.b"] = np.zeros(self.classes, np.float32)
        return {name: a if a.dtype.kind == "i" else a.astype(np.float32) for name, a in arrays.items()}

    def apply(self, F: Any, t: Mapping[str, Any], train: bool) -> Any:
        steps = {name: (stride, padding) for name, _, stride, padding in self.convolutions()}

        def layer(x: Any, name: str) -> Any:
            stride, padding = steps[name]
            x = F.conv2d(x, t[f"{name}.w"], stride=stride, padding=padding)
            if train:
                return F.batchnorm_train(x, t[f"{name}.g"], t[f"{name}.b"])
            return F.batchnorm_infer(x, *(t[f"{name}.{kind}"] for kind in "gbmv"))

        x = F.maxpool(F.relu(layer(t["x"], "p.stem")), 3, 2, 1)
        for number, (blocks, _, _) in enumerate(self.stages):
            for block in range(blocks):
                name = f"p.{number}.{block}"
                y = layer(F.relu(layer(F.relu(layer(x, f"{name}.a")), f"{name}.b")), f"{name}.c")
                x = F.relu(y + (layer(x, f"{name}.short") if block == 0 else x))
        return F.linear(F.global_avgpool(x), t["p.fc.w"], t["p.fc.b"])

    def inference(self, batch: int) -> Workload:
        return Workload(f"resnet50_infer_b{batch}", "models", "models", lambda rng: self.make(rng, batch, False),
                        lambda F, t: [self.apply(F, t, False)], constant=("p.",))

    def training(self, batch: int) -> Workload:
        names = [f"{name}.{kind}" for name, *_ in self.convolutions() for kind in "wgb"] + ["p.fc.w", "p.fc.b"]
        return Workload(f"resnet50_train_b{batch}", "training", "training steps",
                        lambda rng: self.make(rng, batch, True), lr=1e-3, momentum=0.9,
                        phases=[(lambda F, t: (F.cross_entropy(self.apply(F, t, True), t["y"]), {}), names)])


# ------------------------------------------------------------------------------------------------ transformer block
@dataclass(frozen=True)
class Block:
    """A block of GPT-2 small (Radford et al., 2019): causal attention and an MLP, each behind a layer norm."""

    batch: int = 4
    length: int = 256
    width: int = 768
    heads: int = 12

    def make(self, rng: np.random.Generator, train: bool) -> Arrays:
        n, arrays = self.width, {"x": normal(rng, self.batch, self.length, self.width)}
        if train:
            arrays["y"] = normal(rng, self.batch, self.length, n)
        for name, (outputs, inputs) in {"qkv": (3 * n, n), "proj": (n, n), "fc": (4 * n, n), "out": (n, 4 * n)}.items():
            arrays[f"p.{name}.w"] = normal(rng, outputs, inputs, scale=0.02)
            arrays[f"p.{name}.b"] = np.zeros(outputs, np.float32)
        for name in ("ln1", "ln2"):
            arrays[f"p.{name}.g"] = 1 + normal(rng, n, scale=0.02)
            arrays[f"p.{name}.b"] = np.zeros(n, np.float32)
        return arrays

    def apply(self, F: Any, t: Mapping[str, Any]) -> Any:
        def linear(x: Any, name: str) -> Any:
            return F.linear(x, t[f"p.{name}.w"], t[f"p.{name}.b"])

        def norm(x: Any, name: str) -> Any:
            return F.layernorm(x, t[f"p.{name}.g"], t[f"p.{name}.b"])

        x, shape = t["x"], (self.batch, self.length, self.width)
        parts = F.reshape(linear(norm(x, "ln1"), "qkv"), (*shape[:2], 3, self.heads, self.width // self.heads))
        parts = F.transpose(parts, (2, 0, 3, 1, 4))
        a = F.attention(F.index0(parts, 0), F.index0(parts, 1), F.index0(parts, 2), causal=True)
        x = x + linear(F.reshape(F.transpose(a, (0, 2, 1, 3)), shape), "proj")
        return x + linear(F.gelu_tanh(linear(norm(x, "ln2"), "fc")), "out")

    def forward(self) -> Workload:
        return Workload("gpt_block_fwd", "models", "models", lambda rng: self.make(rng, False),
                        lambda F, t: [self.apply(F, t)], constant=("p.",))

    def training(self) -> Workload:
        names = [f"p.{name}.{kind}" for name in ("qkv", "proj", "fc", "out") for kind in "wb"]
        names += [f"p.{name}.{kind}" for name in ("ln1", "ln2") for kind in "gb"]
        return Workload("gpt_block_train", "training", "training steps", lambda rng: self.make(rng, True),
                        lr=1e-2, momentum=0.9,
                        phases=[(lambda F, t: (F.mean_square(self.apply(F, t) - t["y"]), {}), names)])


# ------------------------------------------------------------------------------------------------ LSGAN
@dataclass(frozen=True)
class Gan:
    """Generator and discriminator of a DCGAN (Radford et al., 2015) with least-squares losses (Mao et al., 2016).

    channels  of the generator, from the noise to the image; the discriminator has them in reverse
    """

    channels: tuple[int, ...] = (100, 512, 256, 128, 64, 3)
    batch: int = 16
    colours: int = 3

    @property
    def layers(self) -> int:
        return len(self.channels) - 1

    @property
    def side(self) -> int:
        return 4 << (self.layers - 1)

    def make(self, rng: np.random.Generator) -> Arrays:
        down = (*self.channels[:0:-1], 1)
        arrays = {"z": normal(rng, self.batch, self.channels[0], 1, 1),
                  "real": np.tanh(normal(rng, self.batch, self.colours, self.side, self.side))}
        for i in range(self.layers):
            arrays[f"G{i}.w"] = normal(rng, self.channels[i], self.channels[i + 1], 4, 4, scale=0.02)
            arrays[f"D{i}.w"] = normal(rng, down[i + 1], down[i], 4, 4, scale=0.02)
            if i < self.layers - 1:
                arrays |= self.norm(rng, f"G{i}", self.channels[i + 1])
            if 0 < i < self.layers - 1:
                arrays |= self.norm(rng, f"D{i}", down[i + 1])
        return arrays

    @staticmethod
    def norm(rng: np.random.Generator, name: str, size: int) -> Arrays:
        return {f"{name}.g": 1 + normal(rng, size, scale=0.02), f"{name}.b": np.zeros(size, np.float32)}

    def generate(self, F: Any, t: Mapping[str, Any]) -> Any:
        x = t["z"]
        for i in range(self.layers):
            x = F.conv_transpose2d(x, t[f"G{i}.w"], stride=1 if i == 0 else 2, padding=0 if i == 0 else 1)
            if i < self.layers - 1:
                x = F.relu(F.batchnorm_train(x, t[f"G{i}.g"], t[f"G{i}.b"]))
        return F.tanh(x)

    def judge(self, F: Any, t: Mapping[str, Any], x: Any) -> Any:
        last = self.layers - 1
        for i in range(self.layers):
            x = F.conv2d(x, t[f"D{i}.w"], stride=1 if i == last else 2, padding=0 if i == last else 1)
            if 0 < i < last:
                x = F.batchnorm_train(x, t[f"D{i}.g"], t[f"D{i}.b"])
            if i < last:
                x = F.leaky_relu(x, 0.2)
        return x

    def generator_loss(self, F: Any, t: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        fake = self.generate(F, t)
        return F.mean_square(self.judge(F, t, fake) - 1.0) * 0.5, {"fake": fake}

    def discriminator_loss(self, F: Any, t: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        real = F.mean_square(self.judge(F, t, t["real"]) - 1.0)
        return (real + F.mean_square(self.judge(F, t, t["fake"]))) * 0.5, {}

    def training(self) -> Workload:
        names = self.make(np.random.default_rng(0))
        trained = [[n for n in names if n.startswith(net) and "." in n] for net in "GD"]
        return Workload(f"lsgan_train_b{self.batch}", "training", "training steps", self.make, lr=1e-4, momentum=0.9,
                        phases=list(zip((self.generator_loss, self.discriminator_loss), trained)))
