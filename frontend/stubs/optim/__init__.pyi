from jtc.frontend.optim import *
