"""Warnings of torch itself, which are no errors in its tests either."""

import pytest

_IGNORED = (
    "`torch.jit.script` is deprecated",  # the first use of forward mode of some operators
    "Sparse CSR tensor support is in beta",
    "Sparse CSC tensor support is in beta",
    "Sparse invariant checks are implicitly disabled",
)


def pytest_itemcollected(item: pytest.Item) -> None:
    for message in _IGNORED:
        item.add_marker(pytest.mark.filterwarnings(f"ignore:{message}"))
