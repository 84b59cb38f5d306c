"""jax without its types, which are unknown in part to a strict checker."""

from typing import Any

import jax as typed_jax
from jax import test_util as typed_test_util

jax: Any = typed_jax
jnp: Any = typed_jax.numpy
test_util: Any = typed_test_util
