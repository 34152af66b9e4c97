// usdt [ROUNDS [MICROSECONDS]]: fires USDT probes ROUNDS times (1), then sleeps so long (0). With MICROSECONDS the
// rounds begin when it has slept that long once, so that a tracer finds it running.
//
// The notes are written here and not by <sys/sdt.h>, so that every form of argument is there for certain.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// A probe: a `nop`, and a note that says where it is, where its semaphore is, what it is called and where its
// arguments are.
#define PROBE(provider, name, semaphore, arguments, ...)                                                             \
	__asm__ volatile("990:	nop\n"                                                                                    \
			 "	.pushsection .note.stapsdt,\"\",\"note\"\n"                                                               \
			 "	.balign 4\n"                                                                                              \
			 "	.4byte 992f-991f, 994f-993f, 3\n"                                                                         \
			 "991:	.asciz \"stapsdt\"\n"                                                                                 \
			 "992:	.balign 4\n"                                                                                          \
			 "993:	.8byte 990b, _.stapsdt.base, " semaphore "\n"                                                        \
			 "	.asciz \"" provider "\"\n"                                                                                \
			 "	.asciz \"" name "\"\n"                                                                                    \
			 "	.asciz \"" arguments "\"\n"                                                                               \
			 "994:	.balign 4\n"                                                                                          \
			 "	.popsection\n"                                                                                            \
			 "	.ifndef _.stapsdt.base\n"                                                                                 \
			 "	.pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"                                    \
			 "	.weak _.stapsdt.base\n"                                                                                   \
			 "	.hidden _.stapsdt.base\n"                                                                                 \
			 "_.stapsdt.base:	.space 1\n"                                                                               \
			 "	.size _.stapsdt.base, 1\n"                                                                                \
			 "	.popsection\n"                                                                                            \
			 "	.endif\n"                                                                                                 \
			 :                                                                                                          \
			 : __VA_ARGS__)

// The kernel counts it up while somebody traces the probe.
__attribute__((section(".probes"), used)) volatile uint16_t app_guarded_semaphore;

// A variable that an argument names.
__attribute__((used)) volatile int64_t app_total = 4000000000;

static volatile uint64_t words[4];
static char names[2][8];

__attribute__((noinline)) static void request(int id, const char *path)
{
	PROBE("app", "request", "0", "-4@%0 8@%1", "r"(id), "r"(path));
}

// One probe at two places, with its argument in two ways.
__attribute__((noinline)) static void twice(int n)
{
	int64_t copy = n + 100;
	PROBE("app", "twice", "0", "-4@%k0", "r"(n));
	PROBE("app", "twice", "0", "-8@%0", "m"(copy));
}

__attribute__((noinline)) static void sizes(void)
{
	uint64_t all = 0xf7f6f5f4f3f2f1f0;
	PROBE("app", "constants", "0", "8@$17867739004052632048 -8@$-5 4@$4092785136 -4@$-202182160 2@$61936 -2@$-3600 1@$240 -1@$-16", "r"(0));
	PROBE("app", "registers", "0", "8@%q0 -8@%q0 4@%k0 -4@%k0 2@%w0 -2@%w0 1@%b0 -1@%b0 1@%h0", "Q"(all));
	PROBE("app", "memory", "0", "8@24(%0) -8@24(%0) 4@24(%0) -4@24(%0) 2@24(%0) -2@24(%0) 1@24(%0) -1@31(%0)", "r"(words));
	PROBE("app", "indexed", "0", "8@(%0,%1,8) 8@8(%0,%1,8) 1@(%0,%2) 8@-8(%0,%1,8) 8@8(%0)", "r"(words), "r"(1L), "r"(24L));
	PROBE("app", "variable", "0", "-8@app_total(%%rip)", "r"(0));
	PROBE("other", "many", "0", "4@$0 4@$1 4@$2 4@$3 4@$4 4@$5 4@$6 4@$7 4@$8 4@$9 4@$10 4@$11", "r"(0));
	PROBE("other", "floating", "0", "8f@%%xmm0 4@$7", "r"(0));
	PROBE("app", "\\\"quoted\\\"", "0", "4@$1", "r"(0));
}

__attribute__((noinline)) static void guarded(int n)
{
	if (app_guarded_semaphore == 0)
		return;
	PROBE("app", "guarded", "app_guarded_semaphore", "-4@%k0 2@app_guarded_semaphore(%%rip)", "r"(n));
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1;
	int pause = argc > 2 ? atoi(argv[2]) : 0;
	// A probe cannot read a page that was never touched, so everything is written here.
	words[0] = 1;
	words[1] = 22;
	words[2] = 333;
	words[3] = 0xf7f6f5f4f3f2f1f0;
	strcpy(names[0], "/even");
	strcpy(names[1], "/odd");
	if (pause)
		usleep(pause);
	for (int i = 0; i < rounds; i++) {
		request(i, names[i % 2]);
		twice(i);
		sizes();
		guarded(i);
		if (pause)
			usleep(pause);
	}
	return 0;
}
