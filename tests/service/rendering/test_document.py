from service.rendering.document import Heading, Name, Said


def test_a_backslash_of_a_name_is_told_from_an_escape():
    assert Name("a\\nb") == "a\\\\nb"
    assert isinstance(Name("w"), str)


def test_what_is_said_may_be_of_nothing_in_particular():
    assert Said("text").heading == Heading("", None)
