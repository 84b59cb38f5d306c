from service.rendering.document import DisplayName, Heading, Paragraph


def test_backslash_of_a_name_differs_from_an_escape():
    assert DisplayName("a\\nb") == "a\\\\nb"
    assert isinstance(DisplayName("w"), str)


def test_control_characters_of_a_name_are_escaped():
    assert DisplayName("a\n\x1b[31m\u202e") == "a\\n\\x1b[31m\\u202e"


def test_heading_may_have_no_names():
    assert Paragraph("text").heading == Heading("", ())
