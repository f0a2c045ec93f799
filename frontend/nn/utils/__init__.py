"""`jtc.nn.utils`: what networks are used with."""
from jtc.frontend.nn.utils import rnn

__all__ = ["rnn"]
