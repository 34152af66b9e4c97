//! Typed program to an artifact: CLIF, BPF instructions, a BPF ELF object.
