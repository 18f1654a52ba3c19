"""Dirties more of /workspace than the machine has memory for, and looks at what the harness and programs are."""
import mmap, os

NO_IO = 0x00080000  # the flag of a task whose memory comes without IO


def flags(path):
    with open(path) as f:
        return int(f.read().rpartition(")")[2].split()[6])


harness = [flags(f"/proc/1/task/{t}/stat") for t in os.listdir("/proc/1/task")]
assert all(f & NO_IO for f in harness), [hex(f) for f in harness]
assert not flags("/proc/self/stat") & NO_IO
with open("/proc/1/status") as f:
    locked = [line for line in f if line.startswith("VmLck")][0]
assert int(locked.split()[1]) > 0, locked

total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
size = 2 * total
with open("/workspace/mapped", "w+b") as f:
    f.truncate(size)
    with mmap.mmap(f.fileno(), 0) as m:
        for at in range(0, size, 4096):
            m[at] = 1 + at // 4096 % 250
block = bytes(range(256)) * 4096
with open("/workspace/written", "wb") as f:
    for _ in range(0, size, len(block)):
        f.write(block)
with open("/workspace/mapped", "rb") as f:
    for at in range(0, size, 4096):
        assert f.read(4096)[0] == 1 + at // 4096 % 250, at
print("all there")
