"""Loads of memcached, as its clients make them."""
import socket
import struct
import sys
import time

ADDRESS = ("127.0.0.1", 11211)


def connect():
    return socket.create_connection(ADDRESS, timeout=5)


def ask(link, request, end):
    link.sendall(request)
    answer = b""
    while not answer.endswith(end):
        part = link.recv(65536)
        if not part:
            raise SystemExit(f"connection closed after {request[:40]!r}: {answer[-100:]!r}")
        answer += part
    return answer


def ready():
    assert ask(connect(), b"version\r\n", b"\r\n").startswith(b"VERSION")


def recorded():
    links = [connect() for _ in range(20)]
    for number in range(400):
        link = links[number % len(links)]
        value = b"x" * (number * 13 % 9000)
        key = b"key%d" % number
        assert ask(link, b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value), b"\r\n") == b"STORED\r\n"
        assert value in ask(link, b"get %s\r\n" % key, b"END\r\n")
    link = links[0]
    ask(link, b"set n 0 0 1\r\n1\r\n", b"\r\n")
    assert ask(link, b"incr n 41\r\n", b"\r\n") == b"42\r\n"
    assert ask(link, b"delete n\r\n", b"\r\n") == b"DELETED\r\n"
    big = b"y" * 900_000
    ask(link, b"set big 0 0 %d\r\n%s\r\n" % (len(big), big), b"\r\n")
    assert big in ask(link, b"get big\r\n", b"END\r\n")
    ask(link, b"stats\r\n", b"END\r\n")
    for link in links:
        link.close()


def held_out():
    link = connect()
    assert ask(link, b"ms k 5\r\nhello\r\n", b"\r\n") == b"HD\r\n"
    assert b"hello" in ask(link, b"mg k v\r\n", b"hello\r\n")
    ask(link, b"set brief 0 1 1\r\n1\r\n", b"\r\n")
    for what in (b"items", b"slabs", b"sizes", b"conns", b"settings"):
        ask(link, b"stats %s\r\n" % what, b"END\r\n")
    # Binary: header of magic, opcode, key length, extras, type, status, body length, opaque, cas.
    binary = connect()
    version = struct.pack(">BBHBBHIIQ", 0x80, 0x0B, 0, 0, 0, 0, 0, 0, 0)
    binary.sendall(version)
    assert binary.recv(4096)[0] == 0x81
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagram.settimeout(5)
    # UDP frame: request id, sequence number, datagrams, reserved.
    datagram.sendto(struct.pack(">HHHH", 7, 0, 1, 0) + b"get k\r\n", ADDRESS)
    assert b"hello" in datagram.recv(65536)
    ask(link, b"verbosity 1\r\n", b"\r\n")
    ask(link, b"flush_all\r\n", b"\r\n")
    time.sleep(1.5)
    links = [connect() for _ in range(100)]
    for each in links:
        ask(each, b"mn\r\n", b"MN\r\n")


{"ready": ready, "recorded": recorded, "held_out": held_out}[sys.argv[1]]()
