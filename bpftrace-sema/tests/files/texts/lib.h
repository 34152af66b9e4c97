#define LIB_LEN 8
