"""A port on the loopback that leads to a Unix socket: for clients that only know TCP."""

import contextlib
import socket
import threading

CONNECTIONS = 8  # of the ten that ravelin serves
CHUNK = 65536


@contextlib.contextmanager
def to(path):
    """Forwards while the context lasts; gives the port. Who connects beyond CONNECTIONS waits for a place."""
    with socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS) as server:
        places = threading.BoundedSemaphore(CONNECTIONS)
        threading.Thread(target=_accept, args=(server, path, places), daemon=True).start()
        yield server.getsockname()[1]
        # Wakes the thread that waits in accept.
        server.shutdown(socket.SHUT_RDWR)


def _accept(server, path, places):
    while True:
        places.acquire()
        try:
            client, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(client, path, places), daemon=True).start()


def _serve(client, path, places):
    with client, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as monitor:
        try:
            monitor.connect(path)
        except OSError:
            places.release()
            return
        answers = threading.Thread(target=_copy, args=(monitor, client), daemon=True)
        answers.start()
        _copy(client, monitor)
        answers.join()
    places.release()


def _copy(source, sink):
    """Copies until one side is closed, then closes the other as well."""
    try:
        while data := source.recv(CHUNK):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
