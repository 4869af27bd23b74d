"""Exports and keys that a server is given, and what it says of its address before anything starts."""

import signal
import socket
from contextlib import contextmanager

import pytest

from optimum_pixart_neuron.errors import InvalidExportOption
from optimum_pixart_neuron.serving.server import lifetime, opened
from optimum_pixart_neuron.serving.server.options import ServeOptions
from tests.serving.painter import exported


def options(*exports: str, **given) -> ServeOptions:
    return ServeOptions(exports=list(exports) or ["painter"], **given)


@pytest.fixture(autouse=True)
def sigterm():
    """As it was before: a server that starts handles it for good."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True)
def no_folders(monkeypatch):
    monkeypatch.setattr(opened, "open_export", lambda address: exported(name=address.rpartition("/")[2]))


def test_exports_are_known_by_folder_or_by_the_name_that_they_are_given():
    assert list(opened.open_all(options("/a/small", "large=/b/small"))) == ["small", "large"]


def test_two_exports_of_one_name_are_refused():
    with pytest.raises(InvalidExportOption, match="another export is called small; write NAME=/b/small"):
        opened.open_all(options("/a/small", "/b/small"))


def test_keys_are_the_lines_of_a_file(tmp_path):
    file = tmp_path / "keys"
    assert opened.read_keys(options()) == []
    file.write_text("# of the app\none\n\n  two  \n")
    assert opened.read_keys(options(api_key_file=file)) == ["one", "two"]


@pytest.mark.parametrize("content", [None, b"", b"# none\n\n", b"\xff\xfe", b"x" * (1 << 21)])
def test_a_file_without_keys_is_refused_and_never_taken_for_no_keys(tmp_path, content):
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidExportOption, match=f"--api_key_file {file}"):
        opened.read_keys(options(api_key_file=file))


def test_a_port_that_is_taken_is_refused_before_anything_starts(monkeypatch):
    monkeypatch.setattr(lifetime, "ray_session", lambda _address: pytest.fail("Ray was started"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidExportOption, match=f"--port {port}: Address already in use; choose others$"):
            lifetime.serve_until_terminated(options(port=port), print)


class Started(Exception):
    pass


@pytest.mark.parametrize(
    ("host", "keys", "warned"), [("127.0.0.1", [], False), ("0.0.0.0", [], True), ("0.0.0.0", ["one"], False)]
)
def test_who_listens_beyond_this_machine_without_a_key_is_told_so(monkeypatch, logged, host, keys, warned):
    @contextmanager
    def session(_address):
        raise Started
        yield

    monkeypatch.setattr(lifetime, "ray_session", session)
    monkeypatch.setattr(lifetime, "_check_port", lambda _options: None)
    monkeypatch.setattr(lifetime, "open_all", lambda _options: {})
    monkeypatch.setattr(lifetime, "read_keys", lambda _options: keys)
    with pytest.raises(Started):
        lifetime.serve_until_terminated(options(host=host, port=9), print)
    said = f"anybody who reaches {host}:9 may draw: there is no --api_key_file"
    assert (said in logged.messages) == warned
