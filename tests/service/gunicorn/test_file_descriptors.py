import resource
import socket

import pytest

from service.gunicorn import file_descriptors


@pytest.mark.parametrize(
    ("soft", "hard", "wanted"),
    [
        (1024, 4096, 4096),
        (1024, 2**20, 2**16),
        (2**18, 2**20, 2**18),
        (1024, resource.RLIM_INFINITY, 2**16),
        (256, 256, 256),
    ],
)
def test_the_soft_limit_is_raised_and_never_lowered(soft, hard, wanted, monkeypatch):
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, given: limits.append(given))
    assert file_descriptors.raise_descriptor_limit() == wanted
    assert limits[-1] == (wanted, hard)
    assert len(limits) == (1 if soft == wanted else 2)


def test_unlimited_descriptors_are_many(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert file_descriptors.raise_descriptor_limit() == 2**16


@pytest.mark.parametrize("limit", [64, 256, 512, 1024, 2**16])
def test_connections_and_files_stay_below_the_descriptor_limit(limit):
    threads = 58
    most = file_descriptors.compute_max_connections(limit, threads)
    assert 1 <= most <= 1000
    if limit >= 256:
        assert most + file_descriptors.compute_max_lingering(limit) + threads < limit


@pytest.mark.parametrize(("limit", "is_short"), [(100, True), (114, True), (115, False), (2**16, False)])
def test_the_last_descriptors_are_kept_for_files(limit, is_short, monkeypatch):
    monkeypatch.setattr(socket.socket, "fileno", lambda _: 100)
    if is_short:
        with pytest.raises(OSError, match="kept for files") as raised:
            file_descriptors.raise_if_few_are_left(limit)
        assert raised.value.errno in file_descriptors.SHORTAGE_ERRORS
    else:
        file_descriptors.raise_if_few_are_left(limit)
