import pytest

from service.rendering import number_format


@pytest.mark.parametrize(
    ("written", "number", "text"),
    [
        (number_format.format_value, -0.3302645363355079, "-0.330264536336"),
        (number_format.format_value, 1e-300, "1e-300"),
        (number_format.format_value, "-Infinity", "-Infinity"),
        (number_format.format_magnitude, 7.51e-12, "7.5e-12"),
        (number_format.format_magnitude, 0.0, "0"),
        (number_format.format_magnitude, "NaN", "NaN"),
        (number_format.format_ratio, 8.777e10, "8.78e+10"),
        (number_format.format_ratio, "Infinity", "Infinity"),
        (number_format.format_cosine, 1.0, "1"),
        (number_format.format_cosine, "NaN", "NaN"),
        (number_format.format_probability, 0.99995, "> 0.999"),
        (number_format.format_probability, 1.0, "1"),
        (number_format.format_probability, 2 / 3, "0.667"),
        (number_format.format_probability, 0.001, "0.001"),
        (number_format.format_rounded_up, 3.01e-12, "3.1e-12"),
        (number_format.format_rounded_up, 3e-12, "3e-12"),
        (number_format.format_rounded_up, 9.91e-5, "0.0001"),
        (number_format.format_rounded_up, 0.0, "0"),
        (number_format.format_rounded_up, "Infinity", "Infinity"),
        (number_format.format_index, [1, 20], "[1, 20]"),
        (number_format.format_index, [], "[]"),
    ],
)
def test_number_is_formatted_to_its_digits(written, number, text):
    assert written(number) == text


@pytest.mark.parametrize(
    ("numbers", "most"), [([1.0, 3.0], 3.0), ([9.0, "Infinity"], "Infinity"), ([9.0, "NaN"], "NaN")]
)
def test_largest_number_puts_nan_first(numbers, most):
    assert number_format.find_largest(numbers) == most
    assert number_format.find_largest(numbers[::-1]) == most


@pytest.mark.parametrize(
    ("judged", "reference", "allowed", "ratio"),
    [
        (3.0, 1.0, 0.5, 4.0), (1.0, 1.0, 0.0, 0.0), (2.0, 1.0, 0.0, "Infinity"), ("NaN", 1.0, 1.0, "NaN"),
        ("Infinity", 1.0, 1.0, "Infinity"), (1.0, "NaN", "Infinity", "NaN"), (1.0, 2.0, "Infinity", 0.0),
    ],
)  # fmt: skip
def test_ratio_is_distance_over_allowed_error(judged, reference, allowed, ratio):
    assert number_format.compute_ratio(judged, reference, allowed) == ratio


def test_count_has_singular_and_plural_noun():
    assert number_format.format_count(1, "element") == "1 element"
    assert number_format.format_count(0, "element") == "0 elements"


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (0, "0"), (1e-300, "< 1e-6"), (9.9e-7, "< 1e-6"), (1e-6, "1e-06"), (0.25, "0.25"), (0.9999, "> 0.999"), (1, "1")
    ],
)  # fmt: skip
def test_probability_is_never_rounded_to_certainty(probability, text):
    assert number_format.format_probability(probability) == text
