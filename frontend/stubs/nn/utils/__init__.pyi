from jtc.frontend.nn.utils import *
