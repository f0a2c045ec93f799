from jtc.frontend.nn.utils.rnn import *
