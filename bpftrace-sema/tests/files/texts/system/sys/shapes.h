#ifndef _SYS_SHAPES_H
#define _SYS_SHAPES_H 1
#include <sys/base.h>
#if defined(__x86_64__) && HAS(FEATURE)
#define SHAPE_LIMIT (1UL << 4)
#else
#error "no feature"
#endif
#define SHAPE_FLAG 0x10UL
#define SHAPE_CHAR 'a'
#define SHAPE_IOC SHAPE_NR('s', 3)
#define SHAPE_NR(type, nr) (((type) << 8) | (nr))
#define ROUND ROUND
enum { ROUND = 1, SQUARE };
enum kind { KIND_A = 5, KIND_B = KIND_A + sizeof(shape_id), };
static inline int area(struct shape *s) { struct hidden { int x; } y; return s->w * s->h; }
extern struct shape *all_shapes[];
struct task_struct { int not_the_kernels; };
struct shape {
	shape_id id;
	DECLARE(unsigned char, tag, 4);
	struct { int w, h; } __packed_attr;
	struct shape *next;
	int (*draw[2])(struct shape *, void (*)(int));
	struct task_struct *owner;
};
typedef struct shape shape_t;
typedef int (*callback_t)(int);
what is this even;
#endif
