/* SPDX-License-Identifier: MIT */
/*
 * replay - run a fuzz target without libFuzzer, so that any compiler and every test run can:
 *
 *   NAME FILE...            each file is one input; of a directory each file in it
 *   NAME --random N SEED    N inputs made from SEED, of many lengths and densities
 *
 * A crash of a random run has printed the seed of its input before: `--random 1 THAT_SEED`.
 */
#include "fuzz.h"

#include <dirent.h>
#include <signal.h>
#include <unistd.h>

enum { LONGEST = 4096 };

static uint64_t current_seed;

static uint64_t next_random(uint64_t *state)
{
	/* splitmix64, Steele, Lea and Flood 2014: any seed will do, and inputs don't correlate */
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* Bytes as they come, or mostly small ones: those reach further into what parses them. */
static size_t make_input(uint64_t seed, uint8_t *data)
{
	uint64_t state = seed;
	size_t size = next_random(&state) % (1u << (4 + next_random(&state) % 9));
	uint8_t mask = next_random(&state) % 2 ? 0xff : 0x0f;

	for (size_t i = 0; i < size; i++) {
		uint64_t r = next_random(&state);

		data[i] = r >> 8 & (r % 8 ? mask : 0xff);
	}
	return size;
}

/* The input that broke it, before the process ends. */
static void report(int signal)
{
	char text[80];
	int n = snprintf(text, sizeof(text), "input: --random 1 %llu\n",
			 (unsigned long long)current_seed);

	if (write(STDERR_FILENO, text, n) == n)
		_exit(128 + signal);
	_exit(1);
}

static int run_random(unsigned long count, uint64_t seed)
{
	static uint8_t data[LONGEST];

	signal(SIGABRT, report);
	signal(SIGALRM, report);
	for (unsigned long i = 0; i < count; i++) {
		size_t size;

		current_seed = seed + i;
		size = make_input(current_seed, data);
		alarm(60);
		LLVMFuzzerTestOneInput(data, size);
	}
	printf("%lu inputs from seed %llu\n", count, (unsigned long long)seed);
	return 0;
}

static int run_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data;
	size_t size;
	long end;

	if (!f || fseek(f, 0, SEEK_END) || (end = ftell(f)) < 0 || fseek(f, 0, SEEK_SET)) {
		perror(path);
		return 1;
	}
	data = malloc(end + 1); /* of the exact size, for AddressSanitizer to see the end */
	if (!data) {
		perror(path);
		return 1;
	}
	size = fread(data, 1, end, f);
	fclose(f);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 0;
}

/* Every file of a directory that is a kept corpus; one without any is a mistake. */
static int run_directory(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	unsigned count = 0;
	int status = 0;

	if (!dir)
		return run_file(path);
	while ((e = readdir(dir))) {
		char name[4096];

		if (e->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
		status |= run_file(name);
		count++;
	}
	closedir(dir);
	printf("%u inputs from %s\n", count, path);
	return count ? status : 1;
}

int main(int argc, char **argv)
{
	int status = 0;

	if (argc == 4 && !strcmp(argv[1], "--random"))
		return run_random(strtoul(argv[2], NULL, 0), strtoull(argv[3], NULL, 0));
	for (int i = 1; i < argc; i++)
		status |= run_directory(argv[i]);
	return status;
}
