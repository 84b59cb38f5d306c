from service.rendering.document import DisplayName, Heading, Paragraph


def test_a_backslash_of_a_name_is_told_from_an_escape():
    assert DisplayName("a\\nb") == "a\\\\nb"
    assert isinstance(DisplayName("w"), str)


def test_what_a_terminal_would_obey_is_escaped_in_a_name():
    assert DisplayName("a\n\x1b[31m\u202e") == "a\\n\\x1b[31m\\u202e"


def test_what_is_said_may_be_of_nothing_in_particular():
    assert Paragraph("text").heading == Heading("", ())
