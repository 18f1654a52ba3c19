/* PID 1 that moves bytes over the raw virtio-serial port in one direction at a
 * time: the transport as fast as it goes, against which copies are measured. It
 * is told a direction and a number: 'i' takes so many bytes and answers with
 * one, 'o' writes so many. */
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static char buf[1 << 16];

static void all(int port, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t m = write(port, buf + done, n - done);
		if (m > 0)
			done += m;
	}
}

static size_t some(int port, size_t most)
{
	for (;;) {
		ssize_t n = read(port, buf, most);
		if (n > 0)
			return n;
	}
}

int main(void)
{
	mkdir("/dev", 0755);
	mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
	int port = -1;
	while (port < 0) /* the port comes after its device */
		port = open("/dev/vport0p1", O_RDWR);
	all(port, 1);
	for (;;) {
		char head[9];
		uint64_t left;
		for (size_t n = 0; n < sizeof head;) {
			size_t m = some(port, sizeof head - n);
			memcpy(head + n, buf, m);
			n += m;
		}
		memcpy(&left, head + 1, sizeof left);
		while (left > 0) {
			size_t most = left < sizeof buf ? left : sizeof buf;
			if (head[0] == 'i')
				left -= some(port, most);
			else {
				all(port, most);
				left -= most;
			}
		}
		if (head[0] == 'i')
			all(port, 1);
	}
}
