from jtc.frontend.nn.functional import *
