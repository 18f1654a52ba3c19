"""Changes names in /workspace, argv[1] rounds, and says after every 50 how far it is. Nothing may fail."""
import os, sys

rounds = int(sys.argv[1])
os.makedirs("/workspace/names", exist_ok=True)
os.chdir("/workspace/names")
with open("n0", "w") as f:
    f.write("content")
for i in range(rounds):
    os.rename(f"n{i}", f"n{i + 1}")
    os.close(os.open(f"f{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    os.mkdir(f"d{i}")
    os.symlink("x", f"s{i}")
    os.link(f"n{i + 1}", f"h{i}")
    os.rename(f"s{i}", f"d{i}/s")
    os.unlink(f"f{i}")
    os.unlink(f"d{i}/s")
    os.rmdir(f"d{i}")
    if i % 50 == 49:
        print(f"round {i + 1}", flush=True)
left = sorted(os.listdir("."))
want = sorted([f"n{rounds}"] + [f"h{i}" for i in range(rounds)])
assert left == want, (len(left), set(left) ^ set(want))
with open(f"n{rounds}") as f:
    assert f.read() == "content"
assert os.stat(f"n{rounds}").st_nlink == rounds + 1
print("all there")
