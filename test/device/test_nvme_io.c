/* SPDX-License-Identifier: MIT */
/*
 * The NVMe controller's I/O commands and each of their error statuses; PRPs and SGLs of all shapes;
 * files that are read only, too short or synchronised; interrupts and their coalescing; shadow
 * doorbells; queues that are full.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "nvme_rig.h"

static struct nv nv;
static char image[64];

static uint8_t *data(void)
{
	return at(&nv, DATA);
}

/* The library's calls come here: a file system that makes no holes. */
static bool no_holes;

int fallocate64(int fd, int mode, off64_t offset, off64_t len);
int fallocate64(int fd, int mode, off64_t offset, off64_t len)
{
	if (no_holes) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

/* A file of its own for each test, in the current directory: on a disk, if that is. */
static void image_up(const char *options)
{
	char spec[160];

	snprintf(image, sizeof(image), "nvme-test-%d.img", (int)getpid());
	snprintf(spec, sizeof(spec), "nvme,file=%s%s", image, options);
	nv_up(&nv, spec);
}

static int file_512(void **state)
{
	image_up(",size=2M");
	return 0;
}

static int memory_4096(void **state)
{
	nv_up(&nv, "nvme,memory=2M,block=4096");
	return 0;
}

static int two(void **state)
{
	nv_up(&nv, "nvme,memory=2M,memory=1M");
	return 0;
}

static int down(void **state)
{
	nv_down(&nv);
	if (image[0])
		unlink(image);
	image[0] = 0;
	return 0;
}

static void fill(uint8_t *to, size_t len, unsigned seed)
{
	size_t i;

	for (i = 0; i < len; i++) {
		seed = seed * 1103515245 + 12345;
		to[i] = (uint8_t)(seed >> 16);
	}
}

/* ---- where data is ---- */

static unsigned rng(unsigned *seed, unsigned below)
{
	*seed = *seed * 1103515245 + 12345;
	return (*seed >> 8) % below;
}

/* Describe @len bytes scattered over memory by PRPs, in @cmd and in lists; @map: where each byte
 * is. Pages are taken from the 256 behind DATA in a random order. */
static void random_prps(struct cmd *cmd, uint32_t *map, uint32_t len, unsigned *seed)
{
	uint32_t offset = rng(seed, 3) ? rng(seed, 1024) * 4 : 0, done = 0;
	unsigned entries, i, page = rng(seed, 256);
	uint64_t list = LISTS + rng(seed, 2) * (0x1000 - 8 * (1 + rng(seed, 4)));
	uint64_t second = 0;

	for (entries = 0; done < len; entries++) {
		uint32_t at_page = (uint32_t)DATA + 4096 * ((page + 37 * entries) % 256);
		uint32_t piece = 4096 - offset < len - done ? 4096 - offset : len - done;

		for (i = 0; i < piece; i++)
			map[done + i] = at_page + offset + i;
		if (!entries) {
			*cmd = command((uint8_t)cmd->dw[0], 1, IOVA(at_page + offset));
		} else if (entries == 1 && done + piece == len) {
			second = IOVA(at_page);
		} else {
			if (entries == 1)
				second = IOVA(list);
			/* The last entry of a page of the list, if more follow, is a link. */
			if (list % 4096 == 4088 && done + piece < len) {
				uint64_t next = (list & ~UINT64_C(0xfff)) + 0x2000;

				put_little(at(&nv, list), IOVA(next), 8);
				list = next;
			}
			put_little(at(&nv, list), IOVA(at_page), 8);
			list += 8;
		}
		done += piece;
		offset = 0;
	}
	set_prp2(cmd, second);
}

static void put_sgl(uint8_t *slot, uint64_t addr, uint32_t len, unsigned type)
{
	put_little(slot, addr, 8);
	put_little(slot + 8, len, 4);
	put_little(slot + 12, (uint64_t)type << 28, 4);
}

/* The same by an SGL; parts that a bit bucket swallows have 0 in @map. The end may be longer than
 * the data. */
static void random_sgl(struct cmd *cmd, uint32_t *map, uint32_t len, unsigned *seed)
{
	bool buckets = (cmd->dw[0] & 0xff) == READ;
	uint32_t done = 0, place = (uint32_t)DATA;
	uint8_t table[64][16];
	unsigned count = 0, most = 1 + rng(seed, 40), i, in_segment;
	uint64_t list = LISTS;
	uint8_t *pointer = (uint8_t *)&cmd->dw[6];

	while (done < len) {
		uint32_t piece = count + 1 == most ? len - done : rng(seed, len - done + 1);
		bool bucket = buckets && !rng(seed, 5);

		for (i = 0; i < piece; i++)
			map[done + i] = bucket ? 0 : place + i;
		done += piece;
		put_sgl(table[count], bucket ? 0 : IOVA(place),
			piece + (done == len && rng(seed, 2) ? 777 : 0), bucket);
		place += piece + rng(seed, 100);
		if (!buckets && !rng(seed, 6) && count + 2 < most)
			put_sgl(table[++count], 0, 12345, 1); /* has no effect here */
		count++;
	}
	cmd->dw[0] |= 1 << 14;
	if (count == 1) {
		memcpy(pointer, table[0], 16);
		return;
	}
	/* Segments of a few descriptors, each but the last one ended by a pointer. */
	for (i = 0; i < count; i += in_segment) {
		unsigned left = count - i;

		in_segment = left < 5 || !rng(seed, 4) ? left : 1 + rng(seed, 4);
		put_sgl(pointer, IOVA(list), 16 * (in_segment + (in_segment < left)),
			in_segment < left ? 2 : 3);
		memcpy(at(&nv, list), table[i], 16 * in_segment);
		pointer = at(&nv, list) + 16 * in_segment;
		list += 16 * in_segment + 16 + 16 * rng(seed, 3);
	}
}

static void check_shapes(unsigned block, unsigned seed)
{
	static uint8_t model[1 << 20], bytes[512 << 10];
	static uint32_t map[512 << 10];
	unsigned round;

	memset(model, 0, sizeof(model));
	for (round = 0; round < 400; round++) {
		uint32_t most = (round % 8 ? 32768 : 524288) / block;
		uint32_t blocks = 1 + rng(&seed, most), len = blocks * block, i;
		uint64_t slba = rng(&seed, (unsigned)sizeof(model) / block - blocks + 1);
		bool writing = rng(&seed, 2);
		struct cmd cmd = io(writing ? WRITE : READ, slba, blocks, 0);
		uint32_t dw[3] = {cmd.dw[10], cmd.dw[11], cmd.dw[12]};

		nv.r.keeps = round % 3 == 2;
		cmd.dw[1] = 1;
		if (rng(&seed, 2))
			random_prps(&cmd, map, len, &seed);
		else
			random_sgl(&cmd, map, len, &seed);
		memcpy(&cmd.dw[10], dw, sizeof(dw));
		if (writing && !rng(&seed, 8))
			cmd.dw[12] |= 1u << 30;
		fill(bytes, len, round);
		for (i = 0; i < len; i++)
			if (map[i])
				*at(&nv, map[i]) = writing ? bytes[i] : 0xaa;
		assert_int_equal(nv_run(&nv, 1, cmd), 0);
		if (writing)
			memcpy(model + slba * block, bytes, len);
		for (i = 0; i < len; i++)
			if (map[i] && *at(&nv, map[i]) != model[slba * block + i])
				fail_msg("round %u, byte %u of %u", round, i, len);
	}
}

static void test_shapes_512(void **state)
{
	check_shapes(512, 1);
}

static void test_shapes_4096(void **state)
{
	check_shapes(4096, 2);
}

static void test_prp_errors(void **state)
{
	uint8_t *list = at(&nv, LISTS);
	struct cmd cmd;
	unsigned i;

	/* Entries that must begin a page, and pointers to lists that must be aligned to 8 bytes. */
	for (i = 0; i < 3; i++)
		assert_int_equal(nv_run(&nv, 1, io(READ, 0, 1, IOVA(DATA) + 1 + i)), 0x13);
	cmd = io(READ, 0, 16, IOVA(DATA));
	set_prp2(&cmd, IOVA(DATA) + 0x1004);
	assert_int_equal(nv_run(&nv, 1, cmd), 0x13);
	cmd = io(READ, 0, 24, IOVA(DATA));
	set_prp2(&cmd, IOVA(LISTS) + 4);
	assert_int_equal(nv_run(&nv, 1, cmd), 0x13);
	put_little(list, IOVA(DATA) + 8, 8);
	put_little(list + 8, IOVA(DATA) + 4096, 8);
	set_prp2(&cmd, IOVA(LISTS));
	assert_int_equal(nv_run(&nv, 1, cmd), 0x13);
	/* A link that isn't a page's beginning could go on for ever. */
	put_little(list + 4088, IOVA(LISTS) + 4088, 8);
	set_prp2(&cmd, IOVA(LISTS) + 4088);
	assert_int_equal(nv_run(&nv, 1, cmd), 0x13);
	/* Nothing is mapped there: the data, the list, what the list says. */
	assert_int_equal(nv_run(&nv, 1, io(READ, 0, 1, NOWHERE)), 4);
	assert_int_equal(nv_run(&nv, 1, io(WRITE, 0, 1, NOWHERE)), 4);
	assert_int_equal(nv_run(&nv, 1, io(WRITE, 0, 1, UINT64_MAX - 3)), 4);
	set_prp2(&cmd, NOWHERE);
	assert_int_equal(nv_run(&nv, 1, cmd), 4);
	put_little(list, NOWHERE, 8);
	set_prp2(&cmd, IOVA(LISTS));
	assert_int_equal(nv_run(&nv, 1, cmd), 4);
	/* An interrupt is no memory. */
	assert_int_equal(nv_run(&nv, 1, io(READ, 0, 1, 0xfee00000)), 4);
	assert_true(nv.r.faults >= 6);
	assert_int_equal(nv_run(&nv, 1, io(READ, 0, 1, IOVA(DATA))), 0);
}

static unsigned run_sgl(uint8_t opcode, uint64_t addr, uint32_t len, unsigned type)
{
	struct cmd cmd = io(opcode, 0, 1, 0);

	cmd.dw[0] |= 1 << 14;
	put_sgl((uint8_t *)&cmd.dw[6], addr, len, type);
	return nv_run(&nv, 1, cmd);
}

static void test_sgl_errors(void **state)
{
	static const struct {
		uint32_t len;  /* of the first segment */
		unsigned type; /* of the pointer to it */
		struct {
			uint64_t addr;
			uint32_t len;
			unsigned type; /* with 0x100: a subtype */
		} in[3];
		uint32_t status;
	} rows[] = {
		{16, 3, {{IOVA(DATA), 512, 0}}, 0},
		{16, 2, {{IOVA(DATA), 512, 0}}, 0}, /* satisfied before the end */
		{0, 3, {{IOVA(DATA), 512, 0}}, 0x0d},
		{8, 3, {{IOVA(DATA), 512, 0}}, 0x0d},
		{24, 3, {{IOVA(DATA), 512, 0}}, 0x0d},
		{16, 4, {{IOVA(DATA), 512, 0}}, 0x11}, /* a keyed one */
		{16, 15, {{IOVA(DATA), 512, 0}}, 0x11},
		{16, 3, {{IOVA(DATA), 512, 5}}, 0x11},
		{16, 3, {{IOVA(DATA), 512, 0x100}}, 0x11},
		{16, 3, {{IOVA(DATA), 511, 0}}, 0x0f},
		{32, 3, {{IOVA(DATA), 256, 0}, {IOVA(DATA), 255, 0}}, 0x0f},
		{32, 3, {{IOVA(DATA), 256, 0}, {IOVA(DATA), 256, 0}}, 0},
		{48, 3, {{IOVA(DATA), 256, 0}, {0, 0, 0}, {IOVA(DATA), 256, 0}}, 0},
		{16, 2, {{IOVA(DATA), 256, 0}}, 0x0d}, /* not the last, and no pointer */
		{32, 3, {{IOVA(DATA), 256, 0}, {IOVA(LISTS), 16, 3}}, 0x0d}, /* the last, and one */
		{48, 2, {{IOVA(DATA), 2, 0}, {IOVA(LISTS), 16, 3}, {IOVA(DATA), 512, 0}}, 0x0d},
		{16, 2, {{IOVA(LISTS), 16, 2}}, 0x0e}, /* round and round */
		{16, 3, {{NOWHERE, 512, 0}}, 4},
		{16, 3, {{UINT64_MAX - 10, 512, 0}}, 4},
		{16, 2, {{NOWHERE, 16, 3}}, 4},
	};
	unsigned i, j;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (j = 0; j < 3; j++) {
			put_sgl(at(&nv, LISTS + 16 * j), rows[i].in[j].addr, rows[i].in[j].len,
				rows[i].in[j].type & 0xff);
			if (rows[i].in[j].type & 0x100)
				*at(&nv, LISTS + 16 * j + 15) |= 1;
		}
		assert_int_equal(run_sgl(READ, IOVA(LISTS), rows[i].len, rows[i].type),
				 rows[i].status);
		assert_int_equal(run_sgl(WRITE, IOVA(LISTS), rows[i].len, rows[i].type),
				 rows[i].status);
	}
	/* In the command itself. */
	assert_int_equal(run_sgl(READ, IOVA(DATA), 512, 0), 0);
	assert_int_equal(run_sgl(READ, IOVA(DATA), 4096, 0), 0);
	assert_int_equal(run_sgl(READ, IOVA(DATA), 100, 0), 0x0f);
	assert_int_equal(run_sgl(READ, 0, 512, 1), 0);
	assert_int_equal(run_sgl(WRITE, 0, 512, 1), 0x0f);
	assert_int_equal(run_sgl(READ, NOWHERE, 16, 3), 4);
	/* More pieces, and more descriptors, than are looked at. */
	for (i = 0; i < 2049; i++)
		put_sgl(at(&nv, LISTS + 16 * i), IOVA(DATA) + 2 * i, 1, 0);
	{
		struct cmd cmd = io(READ, 0, 8, 0);

		cmd.dw[0] |= 1 << 14;
		put_sgl((uint8_t *)&cmd.dw[6], IOVA(LISTS), 16 * 2049, 3);
		assert_int_equal(nv_run(&nv, 1, cmd), 0x0e);
		for (i = 0; i < 2049; i++)
			put_sgl(at(&nv, LISTS + 16 * i), IOVA(DATA), 0, 0);
		assert_int_equal(nv_run(&nv, 1, cmd), 0x0e);
	}
}

/* ---- commands ---- */

static void test_ranges(void **state)
{
	static const uint8_t opcodes[] = {READ, WRITE, COMPARE, VERIFY, WRITE_ZEROES};
	const uint64_t end = 2 << 20 >> 9;
	unsigned i;

	for (i = 0; i < sizeof(opcodes); i++) {
		struct cmd cmd = io(opcodes[i], end - 1, 1, IOVA(DATA));

		memset(data(), 0, 4096);
		assert_int_equal(nv_run(&nv, 1, cmd), 0);
		assert_int_equal(nv_run(&nv, 1, io(opcodes[i], end, 1, IOVA(DATA))), 0x80);
		assert_int_equal(nv_run(&nv, 1, io(opcodes[i], end - 1, 2, IOVA(DATA))), 0x80);
		assert_int_equal(nv_run(&nv, 1, io(opcodes[i], UINT64_MAX, 1, IOVA(DATA))), 0x80);
		assert_int_equal(nv_run(&nv, 1, io(opcodes[i], UINT64_MAX - 6, 8, IOVA(DATA))),
				 0x80);
		cmd.dw[1] = 0;
		assert_int_equal(nv_run(&nv, 1, cmd), 0x0b);
		cmd.dw[1] = 2;
		assert_int_equal(nv_run(&nv, 1, cmd), 0x0b);
		cmd.dw[1] = ~0u;
		assert_int_equal(nv_run(&nv, 1, cmd), 0x0b);
	}
	/* Longer than MDTS: those that move data. */
	for (i = 0; i < 3; i++)
		assert_int_equal(nv_run(&nv, 1, io(opcodes[i], 0, 1025, IOVA(DATA))), 2);
	assert_int_equal(nv_run(&nv, 1, io(VERIFY, 0, 4096, 0)), 0);
	assert_int_equal(nv_run(&nv, 1, io(WRITE_ZEROES, 0, 4096, 0)), 0);
	assert_int_equal(nv_run(&nv, 1, command(FLUSH, 1, 0)), 0);
	assert_int_equal(nv_run(&nv, 1, command(FLUSH, ~0u, 0)), 0);
	assert_int_equal(nv_run(&nv, 1, command(FLUSH, 0, 0)), 0x0b);
	assert_int_equal(nv_run(&nv, 1, command(FLUSH, 2, 0)), 0x0b);
}

static void test_compare(void **state)
{
	struct cmd cmd = io(WRITE, 16, 512, IOVA(DATA));
	unsigned i;

	for (i = 1; i < 64; i++)
		put_little(at(&nv, LISTS + 8 * (i - 1)), IOVA(DATA) + 4096 * i, 8);
	set_prp2(&cmd, IOVA(LISTS));
	fill(data(), 512 * 512, 5);
	assert_int_equal(nv_run(&nv, 1, cmd), 0);
	cmd.dw[0] = COMPARE;
	assert_int_equal(nv_run(&nv, 1, cmd), 0);
	data()[0] ^= 1;
	assert_int_equal(nv_run(&nv, 1, cmd), 0x285);
	data()[0] ^= 1;
	data()[512 * 512 - 1] ^= 0x80;
	assert_int_equal(nv_run(&nv, 1, cmd), 0x285);
	data()[512 * 512 - 1] ^= 0x80;
	put_little(at(&nv, LISTS + 8 * 62), NOWHERE, 8);
	assert_int_equal(nv_run(&nv, 1, cmd), 4);
}

static bool all_are(const uint8_t *bytes, size_t len, uint8_t value)
{
	while (len--)
		if (*bytes++ != value)
			return false;
	return true;
}

static void test_zeroes_and_trim(void **state)
{
	static const struct {
		uint32_t count; /* ranges */
		uint32_t cdw11;
		uint64_t slba[2];
		uint32_t blocks[2];
		uint32_t status;
	} rows[] = {
		{1, 4, {8, 0}, {8, 0}, 0},	 {2, 4, {8, 0}, {8, 4}, 0},
		{2, 4, {0, 4096}, {8, 1}, 0x80}, {2, 4, {0, UINT64_MAX}, {8, 2}, 0x80},
		{1, 4, {0, 0}, {0, 0}, 0},	 {1, 3, {8, 0}, {8, 0}, 0}, /* other advice */
		{1, 0, {0, 0}, {~0u, 0}, 0},	 {1, 4, {0, 0}, {~0u, 0}, 0x80},
	};
	struct cmd write = io(WRITE, 0, 16, IOVA(DATA)), read = io(READ, 0, 16, IOVA(DATA));
	unsigned i, j;

	set_prp2(&write, IOVA(DATA) + 4096);
	set_prp2(&read, IOVA(DATA) + 4096);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cmd cmd = command(DATASET, 1, IOVA(LISTS));
		bool acts = (rows[i].cdw11 & 4) && !rows[i].status;

		memset(data(), 0x5a, 8192);
		assert_int_equal(nv_run(&nv, 1, write), 0);
		for (j = 0; j < rows[i].count; j++) {
			put_little(at(&nv, LISTS + 16 * j), 0, 4);
			put_little(at(&nv, LISTS + 16 * j + 4), rows[i].blocks[j], 4);
			put_little(at(&nv, LISTS + 16 * j + 8), rows[i].slba[j], 8);
		}
		cmd.dw[10] = rows[i].count - 1;
		cmd.dw[11] = rows[i].cdw11;
		assert_int_equal(nv_run(&nv, 1, cmd), rows[i].status);
		assert_int_equal(nv_run(&nv, 1, read), 0);
		for (j = 0; j < 16; j++) {
			bool gone = acts && ((j >= rows[i].slba[0] &&
					      j < rows[i].slba[0] + rows[i].blocks[0]) ||
					     (rows[i].count > 1 && j >= rows[i].slba[1] &&
					      j < rows[i].slba[1] + rows[i].blocks[1]));

			assert_true(all_are(data() + 512 * j, 512, gone ? 0 : 0x5a));
		}
	}
	assert_int_equal(nv_run(&nv, 1, command(DATASET, 1, NOWHERE)), 4);
	assert_int_equal(nv_run(&nv, 1, command(DATASET, 2, IOVA(LISTS))), 0x0b);

	memset(data(), 0x5a, 8192);
	assert_int_equal(nv_run(&nv, 1, write), 0);
	assert_int_equal(nv_run(&nv, 1, io(WRITE_ZEROES, 3, 5, 0)), 0);
	assert_int_equal(nv_run(&nv, 1, read), 0);
	assert_true(all_are(data(), 3 * 512, 0x5a) && all_are(data() + 3 * 512, 5 * 512, 0) &&
		    all_are(data() + 8 * 512, 8 * 512, 0x5a));
}

static void test_namespaces(void **state)
{
	struct cmd cmd = io(WRITE, 0, 1, IOVA(DATA));

	memset(data(), 1, 512);
	assert_int_equal(nv_run(&nv, 1, cmd), 0);
	memset(data(), 2, 512);
	cmd.dw[1] = 2;
	assert_int_equal(nv_run(&nv, 1, cmd), 0);
	cmd.dw[0] = READ;
	cmd.dw[1] = 1;
	assert_int_equal(nv_run(&nv, 1, cmd), 0);
	assert_int_equal(data()[0], 1);
	cmd.dw[1] = 2;
	assert_int_equal(nv_run(&nv, 1, cmd), 0);
	assert_int_equal(data()[0], 2);
	cmd.dw[10] = 2048;
	assert_int_equal(nv_run(&nv, 1, cmd), 0x80);
}

/* ---- files ---- */

static void test_file_is_namespace(void **state)
{
	uint8_t block[512];
	struct stat st;
	int fd = open(image, O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 2 << 20);
	fill(data(), 512, 3);
	assert_int_equal(nv_run(&nv, 1, io(WRITE, 100, 1, IOVA(DATA))), 0);
	assert_int_equal(pread(fd, block, 512, 100 * 512), 512);
	assert_memory_equal(block, data(), 512);
	/* Without a write cache. */
	assert_int_equal(nv_admin(&nv, SET_FEATURES, 0, 0, 6, 0), 0);
	fill(data(), 512, 4);
	assert_int_equal(nv_run(&nv, 1, io(WRITE, 101, 1, IOVA(DATA))), 0);
	assert_int_equal(pread(fd, block, 512, 101 * 512), 512);
	assert_memory_equal(block, data(), 512);
	assert_int_equal(nv_run(&nv, 1, io(WRITE_ZEROES, 101, 1, 0)), 0);
	assert_int_equal(pread(fd, block, 512, 101 * 512), 512);
	assert_true(all_are(block, 512, 0));
	/* Someone cut it off: those blocks can't be read; writing brings them back. */
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(nv_run(&nv, 1, io(READ, 7, 1, IOVA(DATA))), 0);
	assert_int_equal(nv_run(&nv, 1, io(READ, 8, 1, IOVA(DATA))), 0x281);
	assert_int_equal(nv.raw & 0x8000, 0); /* it may be tried again */
	assert_int_equal(nv_run(&nv, 1, io(READ, 7, 2, IOVA(DATA))), 0x281);
	assert_int_equal(nv_run(&nv, 1, io(COMPARE, 8, 1, IOVA(DATA))), 0x281);
	assert_int_equal(nv_run(&nv, 1, io(VERIFY, 0, 100, 0)), 0x281);
	assert_int_equal(nv_run(&nv, 1, io(WRITE, 8, 1, IOVA(DATA))), 0);
	assert_int_equal(nv_run(&nv, 1, io(READ, 8, 1, IOVA(DATA))), 0);
	close(fd);
}

static void test_no_holes(void **state)
{
	struct cmd trim = command(DATASET, 1, IOVA(LISTS));
	struct cmd read = io(READ, 0, 16, IOVA(DATA));
	unsigned block;

	set_prp2(&read, IOVA(DATA) + 4096);
	for (block = 0; block < 4096; block += 8) {
		memset(data(), 0x33, 4096);
		assert_int_equal(nv_run(&nv, 1, io(WRITE, block, 8, IOVA(DATA))), 0);
	}
	no_holes = true;
	/* Advice is not taken; zeroes are written, with FUA, too. */
	put_little(at(&nv, LISTS), UINT64_C(8) << 32, 8);
	put_little(at(&nv, LISTS) + 8, 0, 8);
	trim.dw[11] = 4;
	assert_int_equal(nv_run(&nv, 1, trim), 0);
	assert_int_equal(nv_run(&nv, 1, read), 0);
	assert_true(all_are(data(), 8192, 0x33));
	assert_int_equal(nv_run(&nv, 1, io(WRITE_ZEROES, 3, 5, 0)), 0);
	assert_int_equal(nv_run(&nv, 1, read), 0);
	assert_true(all_are(data(), 3 * 512, 0x33) && all_are(data() + 3 * 512, 5 * 512, 0) &&
		    all_are(data() + 8 * 512, 8 * 512, 0x33));
	{
		struct cmd cmd = io(WRITE_ZEROES, 100, 3996, 0);

		cmd.dw[12] |= 1u << 30;
		assert_int_equal(nv_run(&nv, 1, cmd), 0);
	}
	assert_int_equal(nv_run(&nv, 1, io(READ, 96, 8, IOVA(DATA))), 0);
	assert_true(all_are(data(), 4 * 512, 0x33) && all_are(data() + 4 * 512, 4 * 512, 0));
	assert_int_equal(nv_run(&nv, 1, io(READ, 4088, 8, IOVA(DATA))), 0);
	assert_true(all_are(data(), 4096, 0));
	assert_int_equal(nv_admin(&nv, FORMAT, 1, 0, 1, 0), 0);
	assert_int_equal(nv_run(&nv, 1, io(READ, 0, 1, IOVA(DATA))), 0);
	assert_true(all_are(data(), 4096, 0));
	no_holes = false;
}

/* The disk takes no more: here a limit of the process's does it. */
static void test_disk_full(void **state)
{
	struct rlimit old, limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_IGN);
	limit = (struct rlimit){1 << 20, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(nv_run(&nv, 1, io(WRITE, 2040, 8, IOVA(DATA))), 0);
	assert_int_equal(nv_run(&nv, 1, io(WRITE, 2048, 8, IOVA(DATA))), 0x81);
	no_holes = true;
	assert_int_equal(nv_run(&nv, 1, io(WRITE_ZEROES, 2040, 16, 0)), 0x81);
	assert_int_equal(nv_admin(&nv, FORMAT, 1, 0, 1, 0), 0x81);
	no_holes = false;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_DFL);
	/* A format that failed has not changed the format. */
	assert_int_equal(nv_admin(&nv, IDENTIFY, 1, IOVA(DATA), 0, 0), 0);
	assert_int_equal(data()[26], 0);
	assert_int_equal(nv_run(&nv, 1, io(WRITE, 2048, 8, IOVA(DATA))), 0);
	/* Media errors are counted. */
	assert_int_equal(nv_admin(&nv, GET_LOG, 0, IOVA(DATA), 2 | 127 << 16, 0), 0);
	assert_int_equal(little(data() + 160, 8), 3);
}

/* What stands before the first file is of that file. */
static void test_options_before(void **state)
{
	struct stat st;

	assert_int_equal(nv_admin(&nv, IDENTIFY, 0, IOVA(DATA), 2, 0), 0);
	assert_int_equal(little(data(), 8), UINT64_C(2) << 32 | 1);
	assert_int_equal(nv_admin(&nv, IDENTIFY, 1, IOVA(DATA), 0, 0), 0);
	assert_int_equal(little(data(), 8), 256);
	assert_int_equal(data()[26], 1);
	assert_int_equal(nv_admin(&nv, IDENTIFY, 2, IOVA(DATA), 0, 0), 0);
	assert_int_equal(little(data(), 8), 4096);
	assert_int_equal(stat(image, &st), 0);
	assert_int_equal(st.st_size, 1 << 20);
}

static int options_before(void **state)
{
	char spec[160];

	snprintf(image, sizeof(image), "nvme-test-%d.img", (int)getpid());
	snprintf(spec, sizeof(spec), "nvme,block=4096,size=1M,file=%s,memory=2M", image);
	nv_up(&nv, spec);
	return 0;
}

static void test_read_only(void **state)
{
	static const uint8_t opcodes[] = {WRITE, WRITE_ZEROES};
	struct cmd trim = command(DATASET, 1, IOVA(LISTS));
	unsigned i;

	for (i = 0; i < 2; i++)
		assert_int_equal(nv_run(&nv, 1, io(opcodes[i], 0, 1, IOVA(DATA))), 0x20);
	put_little(at(&nv, LISTS), UINT64_C(8) << 32, 8);
	put_little(at(&nv, LISTS) + 8, 0, 8);
	assert_int_equal(nv_run(&nv, 1, trim), 0);
	trim.dw[11] = 4;
	assert_int_equal(nv_run(&nv, 1, trim), 0x20);
	assert_int_equal(nv_admin(&nv, FORMAT, 1, 0, 0, 0), 0x20);
	assert_int_equal(nv_admin(&nv, FORMAT, ~0u, 0, 0, 0), 0x20);
	assert_int_equal(nv_run(&nv, 1, io(READ, 0, 1, IOVA(DATA))), 0);
	assert_int_equal(nv_run(&nv, 1, command(FLUSH, 1, 0)), 0);
	assert_int_equal(nv_admin(&nv, IDENTIFY, 1, IOVA(DATA), 0, 0), 0);
	assert_int_equal(data()[99], 1);
}

static int read_only(void **state)
{
	int fd;

	snprintf(image, sizeof(image), "nvme-test-%d.img", (int)getpid());
	fd = open(image, O_CREAT | O_RDWR, 0600);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
	image_up(",readonly=on");
	return 0;
}

/* Memory that goes while it is mapped: the transfer ends, the controller lives. */
static void test_memory_gone(void **state)
{
	struct cmd cmd = io(READ, 0, 16, IOVA(DATA));
	uint64_t page = (uintptr_t)data() + 4096;
	unsigned faults;

	set_prp2(&cmd, IOVA(DATA) + 4096);
	nv.r.gone = (struct uiommu_range){page + 100, page + 101};
	faults = nv.r.faults;
	assert_int_equal(nv_run(&nv, 1, cmd), 4);
	assert_int_equal(nv.r.faults, faults + 1);
	assert_int_equal(nv.r.fault.iova, IOVA(DATA) + 4096);
	assert_int_equal(nv.r.fault.reason, UIOMMU_FAULT_MEMORY_GONE);
	cmd.dw[0] = WRITE;
	assert_int_equal(nv_run(&nv, 1, cmd), 4);
	nv.r.gone = (struct uiommu_range){1, 0};
	assert_int_equal(nv_run(&nv, 1, cmd), 0);
}

/* ---- queues ---- */

/* A completion queue with less room than there are commands. */
static void test_full_queue(void **state)
{
	unsigned i, done = 0;

	nv_pair_reset(&nv, 2, 32);
	nv.pair[2].cq_entries = 4;
	assert_int_equal(nv_admin(&nv, CREATE_CQ, 0, IOVA(CQ_AT(2)), 3 << 16 | 2, 1), 0);
	assert_int_equal(nv_admin(&nv, CREATE_SQ, 0, IOVA(SQ_AT(2)), 31 << 16 | 2, 2 << 16 | 1), 0);
	for (i = 0; i < 31; i++)
		nv_put(&nv, 2, i % 3 ? command(FLUSH, 1, 0) : io(VERIFY, 0, 1, 0));
	nv_ring(&nv, 2);
	while (done < 31) {
		/* Three at most: one place stays empty. */
		for (i = 0; i < 3 && done < 31; i++, done++)
			assert_int_equal(nv_take(&nv, 2, false), 0);
		assert_int_equal(nv_take(&nv, 2, false), NONE);
		reg_set(&nv.r, HEAD(2), 4, nv.pair[2].head);
		uiommu_function_drain(nv.r.fn);
	}
	/* Round the end of the submission queue. */
	for (i = 0; i < 3; i++)
		nv_put(&nv, 2, command(FLUSH, 1, 0));
	nv_ring(&nv, 2);
	for (i = 0; i < 3; i++)
		assert_int_equal(nv_take(&nv, 2, true), 0);
	/* What waits in a queue that is deleted is gone. */
	assert_int_equal(nv_admin(&nv, DELETE_SQ, 0, 0, 2, 0), 0);
	assert_int_equal(nv_admin(&nv, DELETE_CQ, 0, 0, 2, 0), 0);
	assert_int_equal(nv_run(&nv, 1, command(FLUSH, 1, 0)), 0);
}

static unsigned arrived(unsigned vector)
{
	return __atomic_load_n(&nv.r.arrived[vector], __ATOMIC_RELAXED);
}

static void test_msix(void **state)
{
	rig_msix(&nv.r, 4);
	nv_create(&nv, 2, 16, 3);
	nv_create(&nv, 3, 16, 1);
	memset(nv.r.arrived, 0, sizeof(nv.r.arrived));
	assert_int_equal(nv_run(&nv, 1, command(FLUSH, 1, 0)), 0);
	assert_int_equal(arrived(0) + arrived(1) + arrived(2) + arrived(3), 0);
	assert_int_equal(nv_run(&nv, 2, command(FLUSH, 1, 0)), 0);
	assert_int_equal(arrived(3), 1);
	assert_int_equal(nv_run(&nv, 3, command(FLUSH, 1, 0)), 0);
	assert_int_equal(arrived(1), 1);
	assert_int_equal(nv_admin(&nv, KEEP_ALIVE, 0, 0, 0, 0), 0);
	assert_int_equal(arrived(0), 1);
}

static void on_level(void *ctx, bool level)
{
	*(bool *)ctx = level;
}

static void test_intx(void **state)
{
	bool line = false;

	uiommu_function_set_intx(nv.r.fn, on_level, &line);
	nv_create(&nv, 2, 16, 0);
	assert_false(line);
	nv_put(&nv, 2, command(FLUSH, 1, 0));
	nv_put(&nv, 2, command(FLUSH, 1, 0));
	nv_ring(&nv, 2);
	assert_true(line);
	/* Asserted until all of it is consumed; a mask takes it away for the time being. */
	assert_int_equal(nv_take(&nv, 2, true), 0);
	assert_true(line);
	reg_set(&nv.r, INTMS, 4, 1);
	uiommu_function_drain(nv.r.fn);
	assert_false(line);
	reg_set(&nv.r, INTMC, 4, 1);
	uiommu_function_drain(nv.r.fn);
	assert_true(line);
	assert_int_equal(nv_take(&nv, 2, true), 0);
	assert_false(line);
	reg_set(&nv.r, INTMS, 4, 1);
	nv_put(&nv, 2, command(FLUSH, 1, 0));
	nv_ring(&nv, 2);
	assert_false(line);
	reg_set(&nv.r, INTMC, 4, 1);
	uiommu_function_drain(nv.r.fn);
	assert_true(line);
	reg_set(&nv.r, CC, 4, 0);
	assert_false(line);
	uiommu_function_set_intx(nv.r.fn, NULL, NULL);
}

static void wait_arrived(unsigned vector, unsigned count)
{
	unsigned ms;

	for (ms = 0; arrived(vector) < count && ms < 5000; ms++)
		usleep(1000);
	assert_int_equal(arrived(vector), count);
}

/* Some commands at once: how many interrupts have come when they are done. */
static unsigned interrupts_of(unsigned q, unsigned vector, unsigned commands)
{
	unsigned i;

	__atomic_store_n(&nv.r.arrived[vector], 0, __ATOMIC_RELAXED);
	for (i = 0; i < commands; i++)
		nv_put(&nv, q, command(FLUSH, 1, 0));
	nv_ring(&nv, q);
	return arrived(vector);
}

/* A machine that is busy with something else may not be in time: what depends on 25.5 ms is tried
 * several times. */
static void test_coalescing(void **state)
{
	unsigned tries, i;

	rig_msix(&nv.r, 4);
	nv_create(&nv, 2, 32, 2);
	nv_create(&nv, 3, 32, 3);
	/* Four entries, or 25.5 ms. */
	assert_int_equal(nv_admin(&nv, SET_FEATURES, 0, 0, 8, 255 << 8 | 3), 0);
	assert_int_equal(nv_admin(&nv, SET_FEATURES, 0, 0, 9, 1 << 16 | 3), 0);
	for (i = 0; i < 4; i++)
		assert_int_equal(interrupts_of(3, 3, 1), 1); /* not coalesced */
	for (tries = 0; tries < 20; tries++) {
		unsigned at_once = interrupts_of(2, 2, 3);

		nv_put(&nv, 2, command(FLUSH, 1, 0));
		nv_ring(&nv, 2);
		for (i = 0; i < 4; i++)
			assert_int_equal(nv_take(&nv, 2, true), 0);
		if (!at_once && arrived(2) == 1)
			break;
	}
	assert_true(tries < 20);
	/* A single one comes when its time is over. */
	for (tries = 0; tries < 20 && interrupts_of(2, 2, 1); tries++)
		assert_int_equal(nv_take(&nv, 2, true), 0);
	assert_true(tries < 20);
	wait_arrived(2, 1);
	assert_int_equal(nv_take(&nv, 2, true), 0);
	/* The admin queue never waits. */
	__atomic_store_n(&nv.r.arrived[0], 0, __ATOMIC_RELAXED);
	assert_int_equal(nv_admin(&nv, KEEP_ALIVE, 0, 0, 0, 0), 0);
	assert_int_equal(arrived(0), 1);
	/* Consumed by polling before the time is over: no interrupt for it. */
	for (tries = 0; tries < 20; tries++) {
		interrupts_of(2, 2, 1);
		assert_int_equal(nv_take(&nv, 2, true), 0);
		usleep(60000);
		if (!arrived(2))
			break;
	}
	assert_true(tries < 20);
}

/* ---- shadow doorbells ---- */

#define SHADOW UINT64_C(0x90000)
#define EVENT  UINT64_C(0x91000)

static void shadow_set(unsigned doorbell, uint32_t value)
{
	__atomic_store_n((uint32_t *)at(&nv, SHADOW) + doorbell, htole32(value), __ATOMIC_SEQ_CST);
}

static uint32_t event_of(unsigned doorbell)
{
	return le32toh(__atomic_load_n((uint32_t *)at(&nv, EVENT) + doorbell, __ATOMIC_SEQ_CST));
}

static void test_shadow(void **state)
{
	struct cmd cmd = command(DOORBELL_BUFFERS, 0, IOVA(SHADOW));
	unsigned i, tail;

	set_prp2(&cmd, IOVA(EVENT) + 4);
	assert_int_equal(nv_run(&nv, 0, cmd), 2);
	set_prp2(&cmd, NOWHERE);
	assert_int_equal(nv_run(&nv, 0, cmd), 4);
	/* The copies begin as the doorbells are. */
	assert_int_equal(nv_run(&nv, 1, command(FLUSH, 1, 0)), 0);
	set_prp2(&cmd, IOVA(EVENT));
	assert_int_equal(nv_run(&nv, 0, cmd), 0);
	assert_int_equal(little(at(&nv, SHADOW + 8), 8), UINT64_C(1) << 32 | 1);
	/* Asleep, it asks to be told from the present tail on. */
	uiommu_function_drain(nv.r.fn);
	assert_int_equal(event_of(2), nv.pair[1].tail);
	/* A shadow alone is not seen in its sleep; the doorbell's value doesn't matter. */
	for (i = 0; i < 3; i++)
		nv_put(&nv, 1, command(FLUSH, 1, 0));
	shadow_set(2, nv.pair[1].tail);
	reg_set(&nv.r, TAIL(1), 4, 0);
	uiommu_function_drain(nv.r.fn);
	for (i = 0; i < 3; i++) {
		assert_int_equal(nv_take(&nv, 1, false), 0);
		shadow_set(3, nv.pair[1].head);
	}
	/* Awake for another queue's sake, it sees what nobody rang for. */
	nv_put(&nv, 1, command(FLUSH, 1, 0));
	shadow_set(2, nv.pair[1].tail);
	assert_int_equal(nv_admin(&nv, KEEP_ALIVE, 0, 0, 0, 0), 0);
	assert_int_equal(nv_take(&nv, 1, false), 0);
	shadow_set(3, nv.pair[1].head);
	/* A queue made now begins at 0, whatever the buffer held. */
	shadow_set(4, 7);
	shadow_set(5, 7);
	nv_create(&nv, 2, 16, -1);
	assert_int_equal(little(at(&nv, SHADOW + 16), 8), 0);
	nv_put(&nv, 2, command(FLUSH, 1, 0));
	shadow_set(4, 1);
	nv_ring(&nv, 2);
	assert_int_equal(nv_take(&nv, 2, false), 0);
	shadow_set(5, 1);
	/* A value that can't be. */
	tail = nv_put(&nv, 0, command(ASYNC_EVENT, 0, 0));
	nv_ring(&nv, 0);
	shadow_set(4, 16);
	nv_ring(&nv, 2);
	assert_int_equal(nv_take(&nv, 0, true), 0);
	assert_int_equal(nv.cid, tail);
	assert_int_equal(nv.result, 0x010100);
	/* The admin queue by itself, as a host that has no copy of its doorbells, and then as one
	 * that has. */
	assert_int_equal(nv_admin(&nv, GET_LOG, 0, IOVA(DATA), 1 | 15 << 16, 0), 0);
	for (i = 0; i < 2; i++) {
		assert_int_equal(event_of(0), nv.pair[0].tail);
		assert_int_equal(event_of(1), nv.pair[0].head);
		nv_put(&nv, 0, command(KEEP_ALIVE, 0, 0));
		shadow_set(0, nv.pair[0].tail);
		reg_set(&nv.r, TAIL(0), 4, 0);
		uiommu_function_drain(nv.r.fn);
		assert_int_equal(nv_take(&nv, 0, false), 0);
		shadow_set(1, nv.pair[0].head);
		reg_set(&nv.r, HEAD(0), 4, 1);
		uiommu_function_drain(nv.r.fn);
	}
	/* Buffers that have gone are fatal. */
	nv.r.gone = (struct uiommu_range){(uintptr_t)at(&nv, SHADOW),
					  (uintptr_t)at(&nv, SHADOW) + 4095};
	nv_ring(&nv, 2);
	assert_true(nv_fatal(&nv));
	nv.r.gone = (struct uiommu_range){1, 0};
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_shapes_512, file_512, down),
		cmocka_unit_test_setup_teardown(test_shapes_4096, memory_4096, down),
		cmocka_unit_test_setup_teardown(test_prp_errors, file_512, down),
		cmocka_unit_test_setup_teardown(test_sgl_errors, file_512, down),
		cmocka_unit_test_setup_teardown(test_ranges, file_512, down),
		cmocka_unit_test_setup_teardown(test_compare, file_512, down),
		cmocka_unit_test_setup_teardown(test_zeroes_and_trim, file_512, down),
		cmocka_unit_test_setup_teardown(test_namespaces, two, down),
		cmocka_unit_test_setup_teardown(test_file_is_namespace, file_512, down),
		cmocka_unit_test_setup_teardown(test_no_holes, file_512, down),
		cmocka_unit_test_setup_teardown(test_disk_full, file_512, down),
		cmocka_unit_test_setup_teardown(test_options_before, options_before, down),
		cmocka_unit_test_setup_teardown(test_read_only, read_only, down),
		cmocka_unit_test_setup_teardown(test_memory_gone, file_512, down),
		cmocka_unit_test_setup_teardown(test_full_queue, two, down),
		cmocka_unit_test_setup_teardown(test_msix, two, down),
		cmocka_unit_test_setup_teardown(test_intx, two, down),
		cmocka_unit_test_setup_teardown(test_coalescing, two, down),
		cmocka_unit_test_setup_teardown(test_shadow, two, down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
