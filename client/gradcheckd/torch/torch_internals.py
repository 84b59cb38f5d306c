"""Private functions of torch's checker that judge no numbers, so that both checkers treat an input alike.

They have kept their names and parameters since torch 2.4.
"""

import importlib
from typing import Any

import torch

# The attribute of this name is the function, so that an import statement does not reach the module.
MODULE = "torch.autograd.gradcheck"
_module: Any = importlib.import_module(MODULE)

FIRST_ORDER_CHECKER, SECOND_ORDER_CHECKER = "gradcheck", "gradgradcheck"
"""Names of torch's checkers in their module and in `torch.autograd`."""
GradcheckError: type[RuntimeError] = _module.GradcheckError
check_outputs: Any = _module._check_outputs
compare_fast: Any = _module._fast_gradcheck
compare_parts: Any = _module._gradcheck_real_imag
compare_slowly: Any = _module._slow_gradcheck
densify: Any = _module._densify
split_complex_inputs: Any = _module._real_and_imag_input
test_batched_backward: Any = _module._test_batched_grad
test_batched_forward: Any = _module._test_batched_grad_forward_ad
test_undefined_backward: Any = _module._test_undefined_backward_mode
test_undefined_forward: Any = _module._test_undefined_forward_mode
test_zero_grad_output: Any = _module._test_backward_mul_by_grad_output
NONDETERMINISM_NOTE: str = _module.FAILED_NONDET_MSG
has_no_memory: Any = getattr(torch, "_is_zerotensor")  # noqa: B009 - as that of MKLDNN
"""Tells whether a tensor is one of zeros without numbers of its own."""
MKLDNN: Any = getattr(torch, "_mkldnn")  # noqa: B009 - its type is unknown
COMPRESSED_LAYOUTS = frozenset({torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc})
