/* Makes a known number of system calls that nothing else in a guest makes, or of a kind that
 * can be told by the name of this program.
 *
 * Usage: syscalls NAME COUNT, with NAME one of bpf, getppid, openat, read, sleep, fsync. The last
 * writes a file that has no name. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	long count = argc > 2 ? atol(argv[2]) : 1;
	char buffer[64] = "";
	struct timespec span = { 0, 10 * 1000 * 1000 };
	int zero = open("/dev/zero", O_RDONLY);
	int file = -1;

	for (long i = 0; i < count; i++) {
		if (!strcmp(name, "bpf"))
			syscall(SYS_bpf, 1111, buffer, 22);
		else if (!strcmp(name, "getppid"))
			syscall(SYS_getppid);
		else if (!strcmp(name, "openat"))
			syscall(SYS_openat, AT_FDCWD, "/no/such/file", O_RDONLY);
		else if (!strcmp(name, "read"))
			syscall(SYS_read, zero, buffer, (i % (long)sizeof(buffer)) + 1);
		else if (!strcmp(name, "sleep"))
			nanosleep(&span, NULL);
		else if (!strcmp(name, "fsync")) {
			if (file < 0)
				file = open(".", O_TMPFILE | O_WRONLY, 0600);
			if (write(file, buffer, sizeof(buffer)) < 0 || fsync(file) < 0)
				return 3;
		}
		else
			return 2;
	}
	return 0;
}
