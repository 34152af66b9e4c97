struct fine { int x; };
struct broken { nope_t x; };
#endif
