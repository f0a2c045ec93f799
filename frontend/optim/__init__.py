"""Optimisers, learning-rate schedules and gradient clipping, under PyTorch's names.

`opt.step(loss)` takes the gradients and updates the parameters; under `jit` both belong to the graph of the step.
"""
from __future__ import annotations

from jtc.frontend.optim import lr_scheduler
from jtc.frontend.optim.adagrad import Adagrad
from jtc.frontend.optim.adam import Adam, AdamW
from jtc.frontend.optim.clip import clip_grad_norm, clip_grad_value
from jtc.frontend.optim.grad_scaler import GradScaler
from jtc.frontend.optim.optimizer import Optimizer
from jtc.frontend.optim.rmsprop import RMSprop
from jtc.frontend.optim.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "GradScaler", "Optimizer", "RMSprop", "clip_grad_norm", "clip_grad_value",
           "lr_scheduler"]
