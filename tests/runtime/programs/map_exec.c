/* Maps a file of nothing but code and calls its first byte.
 *
 * Usage: map_exec FILE. Prints what the code returns. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
	int file = argc > 1 ? open(argv[1], O_RDONLY) : -1;
	void *code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);

	if (file < 0 || code == MAP_FAILED) {
		perror("map_exec");
		return 1;
	}
	printf("%d\n", ((int (*)(void))code)());
	return 0;
}
