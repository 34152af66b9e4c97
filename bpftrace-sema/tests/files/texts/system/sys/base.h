#pragma once
#define HAS__FEATURE 1
#define PASTE(a, b) a##b
#define HAS(x) PASTE(HAS__, x)
#define DECLARE(type, name, n) type name[n]
#define __packed_attr __attribute__((packed))
typedef unsigned int shape_id;
