import pytest

from service.numerics.ops.pair_attributes import to_pair


@pytest.mark.parametrize(("given", "both"), [(3, (3, 3)), ([1, 2], (1, 2))])
def test_one_number_stands_for_both_axes(given, both):
    assert to_pair(given) == both
