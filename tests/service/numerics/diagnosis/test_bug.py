"""The catalogue."""

from service.numerics.diagnosis import BACKWARD_BUGS, GRADIENT_BUGS


def test_every_entry_is_under_its_own_name_and_says_what_it_looks_like() -> None:
    for catalogue in (GRADIENT_BUGS, BACKWARD_BUGS):
        for name, fault in catalogue.items():
            assert fault.name == name
            assert fault.signature
            assert type(fault).__doc__
