/* Runs a command and measures it from a process so small that it does not add to the figures: a
 * child's peak of resident memory starts at its parent's, and a large parent would hide it.
 *
 * Usage: measure RESULT COMMAND... Writes one line to the file RESULT:
 *   STATUS FIRST-LINE-NS END-NS CPU-NS PEAK-KB
 * The times are from before the start; FIRST-LINE-NS is -1 if no line was printed. What the
 * command prints is read and dropped. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long nanoseconds(struct timeval t)
{
	return t.tv_sec * 1000000000LL + t.tv_usec * 1000LL;
}

int main(int argc, char **argv)
{
	static char buffer[65536];
	long long start, first = -1, end;
	posix_spawn_file_actions_t actions;
	struct rusage usage;
	int ends[2], status;
	ssize_t n;
	pid_t pid;
	FILE *out;

	if (argc < 3 || pipe2(ends, O_CLOEXEC))
		return 2;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
	start = now();
	if (posix_spawnp(&pid, argv[2], &actions, NULL, argv + 2, environ))
		return 127;
	close(ends[1]);
	while ((n = read(ends[0], buffer, sizeof(buffer))) > 0)
		if (first < 0 && memchr(buffer, '\n', n))
			first = now() - start;
	if (wait4(pid, &status, 0, &usage) != pid)
		return 2;
	end = now() - start;
	out = fopen(argv[1], "w");
	if (!out)
		return 2;
	fprintf(out, "%d %lld %lld %lld %ld\n",
		WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), first, end,
		nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime), usage.ru_maxrss);
	return fclose(out) ? 2 : 0;
}
