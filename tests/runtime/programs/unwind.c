/* A program whose functions keep no frame pointers, so that only unwinding finds their callers.
 *
 * Usage: unwind [COUNT]. Calls unwind_top COUNT times (1 by default), asks for the time through the
 * kernel's own library, and stays for a moment so that its symbols can be looked up. */
#pragma GCC optimize("omit-frame-pointer", "no-optimize-sibling-calls")
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

volatile int unwind_sink;

__attribute__((noinline)) void unwind_leaf(void)
{
	unwind_sink++;
}

__attribute__((noinline)) void unwind_middle(int n)
{
	volatile char some[100];

	some[n] = 1;
	unwind_leaf();
	unwind_sink += some[n];
}

__attribute__((noinline)) void unwind_top(int n)
{
	unwind_middle(n);
	unwind_sink++;
}

/* The kernel's own library cannot answer, and asks the kernel. */
__attribute__((noinline)) void unwind_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	unwind_sink++;
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 1;

	for (int i = 0; i < count; i++)
		unwind_top(i);
	unwind_clock();
	usleep(500000);
	return 0;
}
