from jtc.frontend.optim.lr_scheduler import *
