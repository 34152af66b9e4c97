/* A program whose functions have names of several languages and kinds, each of which makes a system call
 * that nothing else makes (getppid), or calls one that does.
 *
 * Usage: symbols WHAT [PAUSE-MS], with WHAT one of
 *   cpp, rust   a function with a mangled name
 *   inlined     a function that the compiler puts into another one
 *   jit         code made at run time, named in /tmp/perf-PID.map
 *   moved       none of them: main makes the call
 * and stays for the pause, so that its symbols can be looked up. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Called after each system call, so that the caller has a frame of its own. */
static __attribute__((noinline)) void stay(void)
{
	__asm__ volatile("" ::: "memory");
}

static inline __attribute__((always_inline)) long call(void)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(SYS_getppid)
			 : "rcx", "r11", "memory");
	return result;
}

long in_cpp(int) __asm__("_ZN5outer5innerEi");
__attribute__((noinline)) long in_cpp(int n)
{
	long result = call();

	stay();
	return result + n;
}

long in_rust(int) __asm__("_ZN5crate6module8function17h0123456789abcdefE");
__attribute__((noinline)) long in_rust(int n)
{
	long result = call();

	stay();
	return result - n;
}

static inline __attribute__((always_inline)) long symbols_inlined(int n)
{
	long result = call();

	stay();
	return result * n;
}

__attribute__((noinline)) long symbols_outer(int n)
{
	long result = symbols_inlined(n);

	return result + 1;
}

__attribute__((noinline)) long symbols_leaf(void)
{
	long result = call();

	stay();
	return result + 1;
}

/* push %rbp; mov %rsp, %rbp; call *%rdi; pop %rbp; ret */
static const unsigned char made_code[] = { 0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3 };

static int run_made_code(void)
{
	char name[64];
	FILE *map;
	void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (code == MAP_FAILED)
		return 3;
	memcpy(code, made_code, sizeof(made_code));
	snprintf(name, sizeof(name), "/tmp/perf-%d.map", getpid());
	map = fopen(name, "w");
	if (!map)
		return 3;
	fprintf(map, "%lx %zx made at run time\n", (unsigned long)code, sizeof(made_code));
	fclose(map);
	((void (*)(long (*)(void)))code)(symbols_leaf);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	long pause = argc > 2 ? atol(argv[2]) : 0;
	int status = 0;

	if (!strcmp(what, "cpp"))
		in_cpp(argc);
	else if (!strcmp(what, "rust"))
		in_rust(argc);
	else if (!strcmp(what, "inlined"))
		symbols_outer(argc);
	else if (!strcmp(what, "jit"))
		status = run_made_code();
	else
		call();
	usleep(pause * 1000);
	return status;
}
