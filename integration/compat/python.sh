# Python's own tests: threads, processes, sockets, shared memory, semaphores; a virtual environment.
packages='python3 python3-venv libpython3.11-testsuite'
heavy=yes
load() {
    cd /tmp
    # chown to 2^31 is a case of its own.
    python3 -m test -q test_posix test_tempfile -i '*chown'
    python3 - <<'END'
import multiprocessing, multiprocessing.shared_memory, os
def square(n): return n * n
with multiprocessing.get_context('fork').Pool(4) as pool:
    assert pool.map(square, range(100)) == [n * n for n in range(100)]
lock = multiprocessing.Lock()
memory = multiprocessing.shared_memory.SharedMemory(create=True, size=1 << 20)
def add():
    for _ in range(200):
        with lock: memory.buf[0] = (memory.buf[0] + 1) % 256
many = [multiprocessing.get_context('fork').Process(target=add) for _ in range(4)]
[p.start() for p in many]; [p.join() for p in many]
assert memory.buf[0] == 800 % 256
memory.close(); memory.unlink()
END
    python3 -m venv --without-pip /tmp/venv
    /tmp/venv/bin/python -c 'import sys; assert sys.prefix == "/tmp/venv"'
}
