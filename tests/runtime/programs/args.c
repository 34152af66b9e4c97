/* A program to trace: functions with parameters of every kind, each called once. */
#include <stdbool.h>
#include <stdint.h>

enum colour { RED, GREEN = 7 };

struct inner {
	short left, right;
};

struct record {
	int32_t number;
	char name[8];
	uint8_t bytes[3];
	int grid[2][3];
	struct inner pairs[2];
	struct inner *pointer;
	enum colour colour;
	unsigned low : 3;
	int high : 5;
	union {
		uint32_t word;
		uint16_t half;
	};
	struct {
		long anonymous;
	};
};

struct small {
	int first;
	long second;
};

struct large {
	long words[3];
};

struct point {
	double x, y;
};

struct inner target_inner = { -1, 2 };
struct record target_record = {
	-5, "record", { 1, 2, 255 }, { { 1, 2, 3 }, { 4, 5, 6 } },
	{ { 10, 11 }, { 12, 13 } }, &target_inner, GREEN, 5, -3, { 0x10002 }, { 77 },
};
const char target_text[] = "text";
int target_result;

#define FUNCTION __attribute__((noinline)) void

FUNCTION numbers(int8_t a, uint16_t b, int c, unsigned long d, bool e, enum colour f)
{
	target_result += a + b + c + d + e + f;
}

FUNCTION pointers(const char *text, struct record *record, void *nothing, int **twice)
{
	target_result += text[0] + record->number + (nothing != 0) + **twice;
}

FUNCTION many(int a, int b, int c, int d, int e, int f, int g, const char *h)
{
	target_result += a + b + c + d + e + f + g + h[0];
}

FUNCTION values(struct small small, char c, struct large large, double skipped, int last)
{
	target_result += small.first + small.second + c + large.words[2] + skipped + last;
}

FUNCTION floats(struct point point, int after)
{
	target_result += point.x + point.y + after;
}

int main(void)
{
	int number = 9, *once = &number;
	struct small small = { -11, 12 };
	struct large large = { { 21, 22, 23 } };
	struct point point = { 1, 2 };

	target_result = target_text[0];
	numbers(-1, 65535, -3, 1ul << 40, true, GREEN);
	pointers(target_text, &target_record, 0, &once);
	many(1, 2, 3, 4, 5, 6, -7, target_text);
	values(small, 'c', large, 0.5, 31);
	floats(point, 41);
	return 0;
}
