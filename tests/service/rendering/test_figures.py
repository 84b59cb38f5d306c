import pytest

from service.rendering import figures


@pytest.mark.parametrize(
    ("written", "number", "text"),
    [
        (figures.value, -0.3302645363355079, "-0.330264536336"),
        (figures.value, 1e-300, "1e-300"),
        (figures.value, "-Infinity", "-Infinity"),
        (figures.size, 7.51e-12, "7.5e-12"),
        (figures.size, 0.0, "0"),
        (figures.size, "NaN", "NaN"),
        (figures.ratio, 8.777e10, "8.78e+10"),
        (figures.ratio, "Infinity", "Infinity"),
        (figures.cosine, 1.0, "1"),
        (figures.cosine, "NaN", "NaN"),
        (figures.probability, 0.99995, "> 0.999"),
        (figures.probability, 1.0, "1"),
        (figures.probability, 2 / 3, "0.667"),
        (figures.probability, 0.001, "0.001"),
        (figures.at_least, 3.01e-12, "3.1e-12"),
        (figures.at_least, 3e-12, "3e-12"),
        (figures.at_least, 9.91e-5, "0.0001"),
        (figures.at_least, 0.0, "0"),
        (figures.at_least, "Infinity", "Infinity"),
        (figures.index, [1, 20], "[1, 20]"),
        (figures.index, [], "[]"),
    ],
)
def test_a_number(written, number, text):
    assert written(number) == text


@pytest.mark.parametrize(
    ("numbers", "most"), [([1.0, 3.0], 3.0), ([9.0, "Infinity"], "Infinity"), ([9.0, "NaN"], "NaN")]
)
def test_the_largest(numbers, most):
    assert figures.largest(numbers) == most
    assert figures.largest(numbers[::-1]) == most


@pytest.mark.parametrize(
    ("judged", "reference", "allowed", "ratio"),
    [
        (3.0, 1.0, 0.5, 4.0), (1.0, 1.0, 0.0, 0.0), (2.0, 1.0, 0.0, "Infinity"), ("NaN", 1.0, 1.0, "NaN"),
        ("Infinity", 1.0, 1.0, "Infinity"), (1.0, "NaN", "Infinity", "NaN"), (1.0, 2.0, "Infinity", 0.0),
    ],
)  # fmt: skip
def test_how_far_apart(judged, reference, allowed, ratio):
    assert figures.apart(judged, reference, allowed) == ratio


def test_one_and_several():
    assert figures.counted(1, "element") == "1 element"
    assert figures.counted(0, "element") == "0 elements"
