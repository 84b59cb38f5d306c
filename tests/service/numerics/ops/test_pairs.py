import pytest

from service.numerics.ops.pairs import pair


@pytest.mark.parametrize(("given", "both"), [(3, (3, 3)), ([1, 2], (1, 2))])
def test_one_number_stands_for_both_axes(given, both):
    assert pair(given) == both
