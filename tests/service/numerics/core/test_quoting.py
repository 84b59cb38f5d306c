import pytest

from service.numerics.core.quoting import quote_name


@pytest.mark.parametrize(("name", "quoted"), [("w", "'w'"), ("w" * 78, repr("w" * 78)), (1.5, "1.5")])
def test_a_short_name_is_quoted_whole(name: object, quoted: str) -> None:
    assert quote_name(name) == quoted


def test_a_long_name_keeps_its_ends() -> None:
    assert quote_name("a" + "w" * 1_000_000 + "z") == f"'a{'w' * 36}...{'w' * 37}z'"
