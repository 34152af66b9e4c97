/* Functions that call and leave each other in various ways, for probes of their returns. They keep no frame
 * pointers, so that only unwinding finds their callers.
 *
 * Usage: returns nested DEPTH | tail | jump. Stays for a moment so that its symbols can be looked up. */
#pragma GCC optimize("omit-frame-pointer", "no-optimize-sibling-calls")
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

volatile int returns_sink;
static jmp_buf way_out;

__attribute__((noinline)) void returns_leaf(void)
{
	syscall(SYS_getppid);
	returns_sink++;
}

/* Calls itself until it is DEPTH calls deep. */
__attribute__((noinline)) void returns_nested(int depth)
{
	if (depth > 1)
		returns_nested(depth - 1);
	else
		returns_leaf();
	returns_sink++;
}

__attribute__((noinline)) void returns_last(void)
{
	returns_leaf();
	returns_sink++;
}

/* Ends with a jump to another function, which returns for both. */
__attribute__((noinline, optimize("optimize-sibling-calls"))) void returns_first(void)
{
	returns_sink++;
	returns_last();
}

/* Never returns. */
__attribute__((noinline)) void returns_never(void)
{
	returns_sink++;
	longjmp(way_out, 1);
}

__attribute__((noinline)) void returns_late(void)
{
	if (!setjmp(way_out))
		returns_never();
	returns_leaf();
	returns_sink++;
}

int main(int argc, char **argv)
{
	if (argc > 2)
		returns_nested(atoi(argv[2]));
	else if (argc > 1 && !strcmp(argv[1], "tail"))
		returns_first();
	else
		returns_late();
	usleep(500000);
	return 0;
}
