"""Tells the size of its terminal, where that says the last corner is, and each change."""

import fcntl
import os
import signal
import struct
import termios
import tty


def say(what, rows, cols):
    os.write(1, b"%s %d %d\r\n" % (what, rows, cols))


def size():
    return struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))[:2]


def corner():
    """As far as the cursor goes to the right and down, the terminal's answer."""
    os.write(1, b"\x1b[999;999H\x1b[6n")
    answer = b""
    while not answer.endswith(b"R"):
        answer += os.read(0, 1)
    return map(int, answer[2:-1].split(b";"))


tty.setraw(0)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
say(b"size", *size())
say(b"corner", *corner())
while True:
    signal.sigwait([signal.SIGWINCH])
    say(b"resized", *size())
    say(b"corner", *corner())
