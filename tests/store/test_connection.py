"""Connections whose other end is silent, gone or slow; small servers act them, with a short limit of silence."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.waiting import wait_for

from hsae.errors import ServiceError
from hsae.settings import SILENCE_SECONDS
from hsae.store.connection import connection_pool
from hsae.store.objects import ObjectStore

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
Serve = Callable[[socket.socket, int], None]


@contextmanager
def serving(serve: Serve) -> Iterator[tuple[str, list[int]]]:
    """A server that gives each connection to `serve`, with its number; yields its address and the numbers so far."""
    seen: list[int] = []
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        listener.settimeout(0.02)
        threads = []

        def accept() -> None:
            while not over.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                seen.append(len(seen))
                connection.setblocking(True)
                threads.append(threading.Thread(target=answer, args=(connection, seen[-1])))
                threads[-1].start()

        def answer(connection: socket.socket, number: int) -> None:
            with connection:
                serve(connection, number)
                over.wait()  # nobody closes it

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", seen
        finally:
            over.set()
            accepting.join()
            for thread in threads:
                thread.join()


def _store(endpoint: str, silence_seconds: float) -> ObjectStore:
    return ObjectStore(endpoint, "access", "secret-0123", "hsae", silence_seconds=silence_seconds)


def test_a_server_that_accepts_and_says_nothing_is_away() -> None:
    with serving(lambda connection, number: None) as (endpoint, seen):
        with pytest.raises(ServiceError, match=f"the S3 server at {endpoint} cannot be reached \\(it gives no answer"):
            _store(endpoint, 0.05).get("a/b")
        # Six times for the object, of 15 s each, so that a server which is suspended for 75 s is ridden out; and six
        # for another one, which would tell that this one alone is lost.
        wait_for(lambda: len(seen) >= 12)  # the last may not have been counted yet
        assert len(seen) == 12


def test_work_goes_on_by_another_connection_when_one_is_dead() -> None:
    """As behind a router that has forgotten the connection."""

    def serve(connection: socket.socket, number: int) -> None:
        if number > 0:
            connection.recv(1 << 16)
            connection.sendall(_OK)

    with serving(serve) as (endpoint, seen):
        assert _store(endpoint, 0.5).get("a/b") == b"abc"
        assert len(seen) >= 2


def test_a_body_that_stops_is_noticed() -> None:
    def serve(connection: socket.socket, number: int) -> None:
        connection.recv(1 << 16)
        connection.sendall(_OK[:-2] if number == 0 else _OK)

    with serving(serve) as (endpoint, seen):
        store = _store(endpoint, 0.5)
        store.probe = lambda: None  # type: ignore[method-assign]
        assert store.get("a/b") == b"abc"
        assert len(seen) >= 2


def test_a_server_that_takes_a_large_object_slowly_is_not_cut_off() -> None:
    """It is much longer about it than a connection may be silent."""
    size = 8_000_000

    def serve(connection: socket.socket, number: int) -> None:
        n_bytes = 0
        while n_bytes < size:
            if n_bytes % 1_000_000 < 1 << 16:
                time.sleep(0.3)  # the slow disk
            received = len(connection.recv(1 << 16))
            if received == 0:
                return
            n_bytes += received
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: x\r\n\r\n")

    with serving(serve) as (endpoint, _):
        assert _store(endpoint, 1.5).put("a/b", bytes(size)).n_bytes == size


def test_the_kernel_notices_a_vanished_machine_in_time() -> None:
    with serving(lambda connection, number: connection.sendall(_OK)) as (endpoint, _):
        pool = connection_pool()
        answer = pool.urlopen("GET", f"http://{endpoint}/", preload_content=False)
        sock = answer.connection.sock  # type: ignore[attr-defined]

        def option(name: int) -> int:
            return sock.getsockopt(socket.IPPROTO_TCP, name)

        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle_seconds = option(socket.TCP_KEEPIDLE) + option(socket.TCP_KEEPCNT) * option(socket.TCP_KEEPINTVL)
        assert idle_seconds <= SILENCE_SECONDS == 15
        assert option(socket.TCP_USER_TIMEOUT) == 15_000
        assert sock.gettimeout() == SILENCE_SECONDS
        answer.release_conn()
        pool.clear()
