# What a guest reaches and what it does not, as JSON, one line a try; then some
# frames that it must not send at all, which the host counts.
import json, socket, struct, sys, threading

gateway = sys.argv[1]
tries = json.loads(sys.argv[2])
lock = threading.Lock()


def tcp(addr, port):
    with socket.create_connection((addr, port), timeout=3):
        return True


def udp(addr, port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(3)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    s.sendto(b"ask", (addr, port))
    return b"ask" in s.recvfrom(2000)[0]


def ping(addr, _):
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    s.settimeout(3)
    body = struct.pack("!BBHHH", 8, 0, 0, 7, 7) + b"ask!"
    total = sum(struct.unpack("!6H", body))
    total = (total & 0xFFFF) + (total >> 16)
    s.sendto(body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:], (addr, 0))
    while True:
        packet, peer = s.recvfrom(2000)
        if packet[20] == 0 and peer[0] == addr:
            return True


def one(t):
    try:
        works = {"tcp": tcp, "udp": udp, "ping": ping}[t["how"]](t["addr"], t["port"])
    except OSError:
        works = False
    with lock:
        print(json.dumps(dict(t, works=works)), flush=True)


threads = [threading.Thread(target=one, args=(t,)) for t in tries]
for t in threads:
    t.start()
for t in threads:
    t.join()

raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
me = raw.getsockname()[4]
peer = bytes.fromhex("02ae91500001")
other = bytes.fromhex("020102030405")
mine = socket.inet_aton(socket.gethostbyname("localhost"))


def arp(mac, addr, want):
    return b"\xff" * 6 + me + bytes.fromhex("08060001080006040001") + mac + socket.inet_aton(addr) + bytes(6) + socket.inet_aton(want)


def ip(src, dst):
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 1, 0, 64, 17, 0, socket.inet_aton(src), socket.inet_aton(dst)) + struct.pack("!HHHH", 1, 7, 8, 0)


for frame in [
    peer + other + b"\x08\x00" + ip("10.9.9.9", "203.0.113.10"),
    arp(other, "10.9.9.9", gateway),
    arp(me, "10.9.9.9", gateway),
    peer + me + b"\x08\x00" + ip("203.0.113.10", "203.0.113.11"),
    b"\xff" * 6 + me + b"\x08\x00" + ip(sys.argv[3], "255.255.255.255"),
    b"\x33\x33\x00\x00\x00\x01" + me + b"\x86\xdd" + bytes(40),
    peer + me + b"\x81\x00" + bytes(50),
]:
    raw.send(frame)
