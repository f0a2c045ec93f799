from jtc.runtime.knobs import *
