"""Does what programs do to files, in the folder of argv[1], and checks what it gets.

Other arguments are cases to leave out.
"""
import errno, fcntl, mmap, os, random, sqlite3, stat, subprocess, sys, threading, traceback

root = sys.argv[1]
os.umask(0o022)


def fails(code, f, *args, **kw):
    try:
        f(*args, **kw)
    except OSError as e:
        assert e.errno == code, f"{f.__name__}{args}: {e}, expected {errno.errorcode[code]}"
    else:
        raise AssertionError(f"{f.__name__}{args}: expected {errno.errorcode[code]}")


def put(path, data, mode="w"):
    with open(path, mode) as f:
        f.write(data)


def get(path, mode="r"):
    with open(path, mode) as f:
        return f.read()


def create_and_remove():
    put("a", "1")
    assert get("a") == "1" and os.listdir(".") == ["a"]
    os.unlink("a")
    fails(errno.ENOENT, os.stat, "a")
    fails(errno.ENOENT, os.unlink, "a")
    os.mkdir("d")
    fails(errno.EEXIST, os.mkdir, "d")
    fails(errno.EISDIR, os.unlink, "d")
    put("d/x", "")
    fails(errno.ENOTEMPTY, os.rmdir, "d")
    fails(errno.ENOTDIR, os.stat, "d/x/y")


def exclusive():
    fd = os.open("e", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
    os.write(fd, b"x")
    os.close(fd)
    fails(errno.EEXIST, os.open, "e", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    assert stat.S_IMODE(os.stat("e").st_mode) == 0o640
    won = []

    def race(i):
        try:
            os.close(os.open("race", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            won.append(i)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=race, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(won) == 1, won


def rename():
    put("from", "1")
    put("to", "2")
    ino = os.stat("from").st_ino
    os.rename("from", "to")
    assert get("to") == "1" and os.stat("to").st_ino == ino and os.listdir(".") == ["to"]
    os.mkdir("d")
    os.rename("to", "d/to")
    put("f", "")
    fails(errno.EISDIR, os.rename, "f", "d")
    fails(errno.ENOTDIR, os.rename, "d", "f")
    fails(errno.EINVAL, os.rename, "d", "d/in")
    os.mkdir("d2")
    fails(errno.ENOTEMPTY, os.rename, "d2", "d")
    os.unlink("d/to")
    os.rename("d2", "d")
    with open("f", "w") as open_file:
        os.rename("f", "g")
        open_file.write("after")
    assert get("g") == "after"
    os.makedirs("deep/a/b")
    put("deep/a/b/c", "c")
    os.rename("deep", "moved")
    assert get("moved/a/b/c") == "c"


def links():
    put("f", "1")
    os.link("f", "h")
    assert os.stat("f").st_nlink == 2 and os.stat("h").st_ino == os.stat("f").st_ino
    put("h", "2")
    assert get("f") == "2"
    os.unlink("f")
    assert get("h") == "2" and os.stat("h").st_nlink == 1
    os.symlink("h", "s")
    assert os.readlink("s") == "h" and get("s") == "2" and os.lstat("s").st_size == 1
    os.symlink("/etc/hostname", "abs")
    assert get("abs") == get("/etc/hostname")
    os.symlink("x" * 1000, "long")
    assert os.readlink("long") == "x" * 1000
    fails(errno.ELOOP, os.open, "s", os.O_RDONLY | os.O_NOFOLLOW)
    os.symlink("loop", "loop")
    fails(errno.ELOOP, os.stat, "loop")
    fails(errno.EEXIST, os.link, "h", "s")
    os.mkdir("d")
    fails(errno.EPERM, os.link, "d", "e")


def modes():
    put("f", "")
    for mode in (0, 0o400, 0o755, 0o644, 0o1644):
        os.chmod("f", mode)
        assert stat.S_IMODE(os.stat("f").st_mode) == mode
    os.mkdir("d", 0o700)
    assert stat.S_IMODE(os.stat("d").st_mode) == 0o700
    os.chmod("d", 0o2775)
    assert stat.S_IMODE(os.stat("d").st_mode) == 0o2775
    os.utime("f", ns=(10**18 + 1, 10**18 + 2))
    st = os.stat("f")
    assert (st.st_atime_ns, st.st_mtime_ns) == (10**18 + 1, 10**18 + 2)
    fd = os.open("readonly", os.O_CREAT | os.O_RDWR, 0o444)
    os.write(fd, b"as git does")
    os.fsync(fd)
    os.close(fd)
    assert get("readonly") == "as git does"
    put("script", "#!/bin/sh\nexit 7\n")
    os.chmod("script", 0o755)
    assert subprocess.run(["./script"]).returncode == 7
    os.mkfifo("fifo")
    assert stat.S_ISFIFO(os.stat("fifo").st_mode)


def harmless():
    """No program of a guest may become the owner's on the host, and no device the host's."""
    put("script", "")
    os.chmod("script", 0o6755)
    assert stat.S_IMODE(os.stat("script").st_mode) == 0o755
    fails(errno.EPERM, os.mknod, "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))


def content():
    data = random.Random(1).randbytes(3 << 20)
    put("f", data, "wb")
    assert get("f", "rb") == data
    with open("f", "r+b") as f:
        f.seek(1 << 20)
        f.write(b"patch")
        f.flush()
        os.fsync(f.fileno())
        f.truncate(2 << 20)
    want = (data[: 1 << 20] + b"patch" + data[(1 << 20) + 5 :])[: 2 << 20]
    assert get("f", "rb") == want
    put("f", b"tail", "ab")
    assert get("f", "rb") == want + b"tail"
    fd = os.open("sparse", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"end", 1 << 33)
    assert os.fstat(fd).st_size == (1 << 33) + 3 and os.pread(fd, 4, 1 << 32) == b"\0" * 4
    os.ftruncate(fd, 0)
    assert os.fstat(fd).st_size == 0
    os.close(fd)
    with open("m", "w+b") as f:
        f.truncate(1 << 16)
        with mmap.mmap(f.fileno(), 0) as m:
            m[100:105] = b"mmap!"
            m.flush()
    assert get("m", "rb")[100:105] == b"mmap!"
    fd = os.open("gone", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"still here")
    os.unlink("gone")
    assert os.pread(fd, 20, 0) == b"still here"
    os.close(fd)
    assert "gone" not in os.listdir(".") and not [n for n in os.listdir(".") if n.startswith(".nfs")]


def appends():
    def add(i):
        fd = os.open("log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        for k in range(50):
            os.write(fd, f"{i} {k}\n".encode())
        os.close(fd)

    threads = [threading.Thread(target=add, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    lines = get("log").splitlines()
    assert sorted(lines) == sorted(f"{i} {k}" for i in range(4) for k in range(50))


def names():
    odd = ["é", "日本", "a b", "-x", "tab\t", "new\nline", "\\", "n" * 255, b"\xff\xfe".decode("utf8", "surrogateescape")]
    for n in odd:
        put(n, n.encode("utf8", "surrogateescape").hex())
    assert sorted(os.listdir(".")) == sorted(odd)
    for n in odd:
        assert get(n) == n.encode("utf8", "surrogateescape").hex()
    fails(errno.ENAMETOOLONG, os.mkdir, "n" * 256)
    os.mkdir("deep")
    here = os.getcwd()
    os.chdir("deep")
    for _ in range(40):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    put("bottom", "far")
    assert get("bottom") == "far"
    os.chdir(here)


def many():
    want = {f"file-{i:05}" for i in range(2000)}
    for n in want:
        os.close(os.open(n, os.O_CREAT | os.O_WRONLY))
    assert set(os.listdir(".")) == want and len(os.listdir(".")) == 2000
    for n in os.listdir("."):  # while it is being listed
        os.unlink(n)
    assert os.listdir(".") == []
    for i in range(300):
        os.close(os.open(str(i), os.O_CREAT | os.O_WRONLY))
    seen = 0
    with os.scandir(".") as entries:
        for e in entries:
            os.unlink(e.name)
            seen += 1
    assert seen == 300 and os.listdir(".") == []


def locks():
    with open("l", "w") as f:
        fcntl.lockf(f, fcntl.LOCK_EX)
        child = "import fcntl,sys\nf=open('l','w')\ntry:\n fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB)\nexcept OSError: sys.exit(3)"
        assert subprocess.run([sys.executable, "-c", child]).returncode == 3
        fcntl.lockf(f, fcntl.LOCK_UN)
        assert subprocess.run([sys.executable, "-c", child]).returncode == 0
        fcntl.flock(f, fcntl.LOCK_EX)


def sqlite():
    for journal in ("delete", "wal"):
        name = journal + ".db"
        db = sqlite3.connect(name, isolation_level=None)
        assert db.execute("pragma journal_mode=" + journal).fetchone() == (journal,)
        db.execute("create table t (a integer primary key, b text)")
        db.execute("begin immediate")
        db.executemany("insert into t values (?, ?)", ((i, "x" * 100) for i in range(500)))
        other = sqlite3.connect(name, timeout=0, isolation_level=None)
        try:
            other.execute("begin immediate")
            raise AssertionError("two writers")
        except sqlite3.OperationalError as e:
            assert "locked" in str(e), e
        db.execute("commit")
        assert other.execute("select count(*) from t").fetchone() == (500,)
        db.execute("begin")
        db.execute("delete from t")
        db.execute("rollback")
        assert other.execute("select count(*) from t").fetchone() == (500,)
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        db.close()
        other.close()


def notified():
    code = "import ctypes,os,select\nlibc=ctypes.CDLL(None)\nfd=libc.inotify_init1(0)\nassert libc.inotify_add_watch(fd,b'.',0x100)>=0\nopen('seen','w').close()\nassert select.select([fd],[],[],5)[0]"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


failed = []
cases = [create_and_remove, exclusive, rename, links, modes, harmless, content, appends, names, many, locks, sqlite, notified]
cases = [c for c in cases if c.__name__ not in sys.argv[2:]]
for case in cases:
    where = os.path.join(root, case.__name__)
    os.mkdir(where)
    os.chdir(where)
    try:
        case()
    except BaseException as e:
        failed.append(f"{case.__name__}: {traceback.format_exc()}")
os.chdir("/")
print("\n".join(failed) or f"{len(cases)} cases passed")
sys.exit(len(failed) > 0)
