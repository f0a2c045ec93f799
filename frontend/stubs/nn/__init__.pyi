from jtc.frontend.nn import *
