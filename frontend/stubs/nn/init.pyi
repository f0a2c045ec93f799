from jtc.frontend.nn.init import *
