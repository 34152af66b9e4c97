/* A program to trace: functions with known arguments, results and nesting.
 *
 * Usage: target [COUNT [PAUSE-MS]]. Calls target_outer COUNT times (1 by default), with the
 * arguments 10, 11, ..., and pauses after each call. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct point {
	int32_t x;
	int64_t y;
	char name[8];
};

/* Written at the start: a probe cannot read a page that was never touched.
 * The format is there for the same reason. */
char target_text[4] = "?";
char target_format[] = "%d\n";

struct point target_point = { -3, 4000000000, "origin" };
uint32_t target_counter = 42;

__attribute__((noinline)) int target_inner(int value, const char *text)
{
	__asm__ volatile("" ::: "memory");
	return value * 2 + text[0];
}

__attribute__((noinline)) int target_outer(int value, struct point *point)
{
	int result = target_inner(value, target_text);
	__asm__ volatile("" ::: "memory");
	return result + point->x;
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 1;
	long pause = argc > 2 ? atol(argv[2]) : 0;
	struct timespec span = { pause / 1000, pause % 1000 * 1000000 };
	int sum = 0;

	target_text[0] = 'A';
	for (long i = 0; i < count; i++) {
		sum += target_outer(10 + i, &target_point);
		target_counter++;
		if (pause)
			nanosleep(&span, NULL);
	}
	printf(target_format, sum);
	return 0;
}
