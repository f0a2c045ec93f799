"""One module for each peer, with

* `build(w) -> run`: makes the inputs of a workload in the peer's own form, once, and returns a function that computes
  it and waits for the result; None for a workload that the peer has no way to run
* `to_numpy(result)`: arrays, in the order of the outputs; the losses of a training step
* `VERSION`: what is compared

and, besides, the primitives `F` in the peer's own functions.  The number of threads is in BENCH_THREADS.
"""
