from jtc.frontend.random import *
