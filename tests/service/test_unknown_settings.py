import pytest

from service.unknown_settings import find_unknown_settings, suggest_setting

NAMES = ("max_bytes", "keys")

OF_OTHERS = (
    "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_8000_TCP", "PORT_8000_TCP_PROTO",
    "PORT_8000_TCP_PORT", "PORT_8000_TCP_ADDR", "URL", "API_KEY",
)  # fmt: skip


@pytest.mark.parametrize("name", OF_OTHERS)
def test_variables_of_a_cluster_and_of_the_client_are_no_unknown_settings(name):
    assert find_unknown_settings({f"OURS_{name}": "1"}, "OURS_", NAMES) == []


def test_settings_are_known_in_any_case_and_what_is_not_ours_is_not_looked_at():
    assert find_unknown_settings(
        {"OURS_MAX_BYTES": "", "ours_Keys": "", "PATH": "", "OURS_B": "", "OURS_A": ""}, "OURS_", NAMES
    ) == [
        "OURS_A",
        "OURS_B",
    ]


@pytest.mark.parametrize(
    ("name", "setting"), [("MAX_BYTE", "MAX_BYTES"), ("maxbytes", "MAX_BYTES"), ("KEY", "KEYS"), ("IMAGE", None)]
)
def test_misspelt_setting_gets_a_suggestion(name, setting):
    assert suggest_setting(f"OURS_{name}", "OURS_", NAMES) == (None if setting is None else f"OURS_{setting}")
