"""The catalogue."""

from service.numerics.faults import BACKWARD, FAULTS


def test_every_entry_is_under_its_own_name_and_says_what_it_looks_like() -> None:
    for catalogue in (FAULTS, BACKWARD):
        for name, fault in catalogue.items():
            assert fault.name == name
            assert fault.signature
            assert type(fault).__doc__
