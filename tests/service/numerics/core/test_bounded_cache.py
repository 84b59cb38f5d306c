import pytest

from service.numerics.core.bounded_cache import BoundedCache


def test_a_value_is_made_once_and_the_last_used_ones_are_kept():
    cache: BoundedCache[int] = BoundedCache(2)
    made: list[str] = []

    def get(key: str) -> int:
        return cache.get_or_make(key, lambda: made.append(key) or len(made))

    assert [get("a"), get("b"), get("a"), get("c")] == [1, 2, 1, 3]
    assert (len(cache), made) == (2, ["a", "b", "c"])
    assert get("a") == 1, "used after b"
    assert get("b") == 4, "made again"


def test_what_a_maker_raises_is_not_kept():
    cache: BoundedCache[float] = BoundedCache(2)
    with pytest.raises(ZeroDivisionError):
        cache.get_or_make("a", lambda: 1 / 0)
    assert cache.get_or_make("a", lambda: 2.0) == 2.0


def test_a_value_that_is_put_is_found_until_others_drop_it():
    cache: BoundedCache[str] = BoundedCache(2)
    assert cache.find("a") is None
    assert cache.put("a", "first") == "first"
    cache.put("b", "second")
    assert cache.find("a") == "first"
    cache.put("c", "third")
    assert (cache.find("a"), cache.find("b"), len(cache)) == ("first", None, 2)
