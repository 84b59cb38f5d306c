"""One thread, on one core: imported before anything that computes, for thread pools are sized when they are loaded.

Only where a benchmark is what runs: who merely imports one, as its tests do, and their servers, keep all cores.
"""

import os

import __main__

_spec = getattr(__main__, "__spec__", None)
if _spec is not None and _spec.name.startswith("benchmarks."):
    for _name in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM", "NUMEXPR"):
        os.environ[f"{_name}_NUM_THREADS"] = "1"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    os.environ["JAX_PLATFORMS"] = "cpu"
    # jax sizes its pool by the cores that it may use, whatever the flags say.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
