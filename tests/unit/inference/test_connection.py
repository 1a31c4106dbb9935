"""The workers' lean client, against a socket that answers byte by byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.inference.connection import Connection, ServerError


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Connection, socket.socket]]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        connection = Connection(f"unix://{tmp_path}/s", poll=100)
        server, _ = listener.accept()
        with server:
            yield connection, server
        connection.close()


def test_replies_of_every_kind_are_read(pair: tuple[Connection, socket.socket]) -> None:
    connection, server = pair
    server.sendall(b"*5\r\n$2\r\nab\r\n:-3\r\n$-1\r\n+OK\r\n*0\r\n-ERR no\r\n")
    assert connection.reply() == [bytearray(b"ab"), -3, None, "OK", []]
    with pytest.raises(ServerError, match="ERR no"):
        connection.reply()


def test_an_error_inside_an_array_is_raised_and_the_next_reply_is_the_next(
    pair: tuple[Connection, socket.socket],
) -> None:
    connection, server = pair
    server.sendall(b"*3\r\n+OK\r\n-ERR no\r\n+NA\r\n:7\r\n")
    with pytest.raises(ServerError, match="ERR no"):
        connection.reply()
    assert connection.reply() == 7


def test_a_reply_that_arrives_in_pieces_is_put_together(pair: tuple[Connection, socket.socket]) -> None:
    connection, server = pair
    large = bytes(range(256)) * 1024
    answer = b"*2\r\n$5\r\nhello\r\n$%d\r\n%b\r\n" % (len(large), large)

    def dribble() -> None:
        for start in range(0, 64):
            server.sendall(answer[start : start + 1])
        server.sendall(answer[64:])

    thread = threading.Thread(target=dribble)
    thread.start()
    connection.wait()
    assert connection.reply() == [bytearray(b"hello"), bytearray(large)]
    thread.join()


def test_a_large_command_is_sent_whole(pair: tuple[Connection, socket.socket]) -> None:
    connection, server = pair
    large = bytes(300_000)
    received = bytearray()
    expected = b"*3\r\n$1\r\na\r\n$1\r\n5\r\n$%d\r\n%b\r\n" % (len(large), large)

    def collect() -> None:
        while len(received) < len(expected):
            received.extend(server.recv(65536))

    thread = threading.Thread(target=collect)
    thread.start()
    connection.send("a", 5, large)
    thread.join(10)
    assert bytes(received) == expected


def test_a_closed_server_is_a_connection_error(pair: tuple[Connection, socket.socket]) -> None:
    connection, server = pair
    server.close()
    with pytest.raises(ConnectionError):
        connection.reply()
