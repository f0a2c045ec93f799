from jtc.frontend.data import *
