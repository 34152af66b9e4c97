#pragma once
#define OWN 7
typedef struct { short a, b; } pair_t;
static inline int unused(int x) { return x; }
struct own { pair_t pairs[OWN - 5]; };
