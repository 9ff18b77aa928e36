/* SPDX-License-Identifier: MIT */
/*
 * fuzz_nvme - the NVMe controller with arbitrary submission queue entries, PRP lists, SGLs and
 * register writes. Its memory is an arena at a known IOVA, between two pages it must never touch:
 * an admin queue pair and one for I/O, and pages of lists and data that inputs write as they like.
 *
 * Promised: it never reaches other memory, never hangs (a doorbell brings few commands, each of
 * which does bounded work: uiommu_function_drain() returns), never completes more than it was
 * given, and, once reset, reads and writes.
 */
#include <errno.h>

#include <uiommu/device.h>
#include <uiommu/space.h>

#include "fuzz.h"

enum { PAGE = 4096, PAGES = 24, ARENA = PAGES * PAGE, MOST_STEPS = 64, ENTRIES = 16 };
enum { BAR_SIZE = 0x4000, CC = 0x14, CSTS = 0x1c, AQA = 0x24, ASQ = 0x28, ACQ = 0x30 };
/* Pages of the arena: four of queues, the rest is free. */
enum { ADMIN_SQ, ADMIN_CQ, IO_SQ, IO_CQ, FREE };
enum { CC_RUN = 6 << 16 | 4 << 20 | 1 };
#define IOVA UINT64_C(0x100000)

/* With a page on either side. */
static uint8_t memory[PAGE + ARENA + PAGE] __attribute__((aligned(4096)));
static uint8_t *const arena = memory + PAGE;

static struct {
	struct uiommu_machine *machine;
	struct uiommu_function *fn;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain;
	unsigned tail[2];
} fuzzed;

/* Addresses are what the arena's are; a part may be lent to system calls. */
static int copy_in(void *ctx, uint64_t addr, void *buf, size_t len)
{
	PROMISE(addr >= PAGE && addr <= PAGE + ARENA && len <= PAGE + ARENA - addr);
	memcpy(buf, memory + addr, len);
	return 0;
}

static int copy_out(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	PROMISE(addr >= PAGE && addr <= PAGE + ARENA && len <= PAGE + ARENA - addr);
	memcpy(memory + addr, buf, len);
	return 0;
}

static void *lend(void *ctx, uint64_t addr, uint64_t len)
{
	PROMISE(addr >= PAGE && addr <= PAGE + ARENA && len <= PAGE + ARENA - addr);
	return addr & PAGE ? memory + addr : NULL;
}

static const struct uiommu_memory_ops ops = {
	.size = sizeof(ops), .read = copy_in, .write = copy_out, .lend = lend};

static void reg_write(uint64_t offset, unsigned len, uint64_t value)
{
	int ret = uiommu_function_bar_write(fuzzed.fn, 0, offset, &value, len);

	PROMISE(ret == 0 || ret == -EIO);
}

static uint64_t reg_read(uint64_t offset, unsigned len)
{
	uint64_t value = 0;
	int ret = uiommu_function_bar_read(fuzzed.fn, 0, offset, &value, len);

	PROMISE(ret == 0 || ret == -EIO);
	return value;
}

static void command_at(unsigned page, unsigned slot, const uint32_t dw[16])
{
	memcpy(arena + page * PAGE + slot * 64, dw, 64);
}

static void admin(uint32_t opcode, uint64_t prp, uint32_t cdw10, uint32_t cdw11)
{
	uint32_t dw[16] = {opcode, 0, [6] = (uint32_t)prp, [10] = cdw10, cdw11};

	command_at(ADMIN_SQ, fuzzed.tail[0], dw);
	fuzzed.tail[0] = (fuzzed.tail[0] + 1) % ENTRIES;
	reg_write(0x1000, 4, fuzzed.tail[0]);
	uiommu_function_drain(fuzzed.fn);
}

/* Enabled, with both pairs of queues. */
static void enable(void)
{
	uiommu_function_config_write(fuzzed.fn, 4, 2, 6);
	reg_write(CC, 4, 0);
	memset(arena, 0, FREE * PAGE);
	fuzzed.tail[0] = fuzzed.tail[1] = 0;
	reg_write(AQA, 4, (ENTRIES - 1) << 16 | (ENTRIES - 1));
	reg_write(ASQ, 8, IOVA + ADMIN_SQ * PAGE);
	reg_write(ACQ, 8, IOVA + ADMIN_CQ * PAGE);
	reg_write(CC, 4, CC_RUN);
	admin(5, IOVA + IO_CQ * PAGE, (ENTRIES - 1) << 16 | 1, 3);
	admin(1, IOVA + IO_SQ * PAGE, (ENTRIES - 1) << 16 | 1, 1 << 16 | 1);
}

static void set_up(void)
{
	struct uiommu_memory mem = {&ops, NULL};
	struct uiommu_machine_options machine = {.size = sizeof(machine), .memory = &mem};
	struct uiommu_domain_options domain = {.size = sizeof(domain)};
	const struct uiommu_platform_facts *facts;
	struct uiommu_range range = {IOVA, IOVA + ARENA - 1};
	char why[256];

	PROMISE(uiommu_machine_create(&machine, &fuzzed.machine, why, sizeof(why)) == 0);
	PROMISE(uiommu_machine_add(fuzzed.machine, "nvme,memory=256K,memory=64K,block=4096", why,
				   sizeof(why)) == 0);
	fuzzed.fn = uiommu_machine_function(fuzzed.machine, 0);
	facts = uiommu_platform_facts(uiommu_machine_platform(fuzzed.machine));
	domain.format = facts->format;
	domain.width = facts->width;
	PROMISE(uiommu_ioas_create(&fuzzed.ioas) == 0);
	PROMISE(uiommu_domain_create(uiommu_machine_unit(fuzzed.machine), fuzzed.ioas, &domain,
				     &fuzzed.domain) == 0);
	PROMISE(uiommu_domain_attach(fuzzed.domain, uiommu_function_info(fuzzed.fn)->rid,
				     facts->regions, facts->region_count, "nvme") == 0);
	PROMISE(uiommu_ioas_map(fuzzed.ioas, range, PAGE, UIOMMU_READ | UIOMMU_WRITE, NULL) == 0);
	enable();
}

static void tear_down(void)
{
	uint16_t rid = uiommu_function_info(fuzzed.fn)->rid;

	uiommu_function_reset(fuzzed.fn);
	uiommu_domain_detach(fuzzed.domain, rid);
	uiommu_domain_destroy(fuzzed.domain);
	uiommu_ioas_destroy(fuzzed.ioas);
	uiommu_machine_destroy(fuzzed.machine);
}

/* Mostly a page of the arena, then somewhere in it, now and then anything at all. */
static uint64_t take_address(struct input *in)
{
	uint8_t how = take8(in);

	if (how < 160)
		return IOVA + (FREE + take8(in) % (PAGES - FREE)) * PAGE;
	if (how < 224)
		return IOVA + take16(in) * 8 % ARENA;
	return how < 240 ? 0xfee00000 + take16(in) : take64(in);
}

/* A command that has a chance: known opcode, small fields; or any bytes. */
static void do_command(struct input *in)
{
	static const uint8_t admins[] = {0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x08,
					 0x09, 0x0a, 0x0c, 0x18, 0x7c, 0x80};
	static const uint8_t nvms[] = {0x00, 0x01, 0x02, 0x05, 0x08, 0x09, 0x0c};
	uint8_t how = take8(in);
	unsigned q = how & 1;
	uint64_t prp1, prp2;
	uint32_t dw[16];

	if (how >= 240) {
		take(in, dw, sizeof(dw));
	} else {
		memset(dw, 0, sizeof(dw));
		dw[0] = q ? nvms[take8(in) % sizeof(nvms)] : admins[take8(in) % sizeof(admins)];
		dw[0] |= (uint32_t)take8(in) << 16 | (how % 8 == 7 ? 1 << 14 : 0);
		dw[1] = how % 16 == 15 ? (uint32_t)take64(in) : take8(in) % 3;
		prp1 = take_address(in);
		prp2 = take_address(in);
		/* An SGL descriptor has its length and type where the second PRP is. */
		if (dw[0] >> 14 & 1)
			prp2 = take16(in) | (uint64_t)(take8(in) % 5) << 60;
		memcpy(&dw[6], &prp1, 8);
		memcpy(&dw[8], &prp2, 8);
		dw[10] = how % 4 ? take8(in) | (uint32_t)take8(in) << 16 : (uint32_t)take64(in);
		dw[11] = how % 4 ? take8(in) & 7 : (uint32_t)take64(in);
		dw[12] = take16(in) % (how % 32 ? 64 : 65536) | (uint32_t)take8(in) << 24;
		/* Queues elsewhere would take completions for data. */
		if (!q && (dw[0] & 0xff) == 5 && how % 8)
			dw[10] = (dw[10] & 0xffff0000) | 2;
	}
	command_at(q ? IO_SQ : ADMIN_SQ, fuzzed.tail[q], dw);
	fuzzed.tail[q] = (fuzzed.tail[q] + 1) % ENTRIES;
}

/* A list, or anything, in the free part. */
static void do_list(struct input *in)
{
	uint8_t *at = arena + FREE * PAGE + take16(in) * 8 % ((PAGES - FREE) * PAGE - 512);
	uint8_t how = take8(in);
	unsigned count = take8(in) % 32, i;

	for (i = 0; i < count; i++) {
		uint64_t address = take_address(in);
		uint64_t rest = take16(in) | (uint64_t)(take8(in) % 5) << 60;

		memcpy(at, &address, 8);
		at += 8;
		if (how & 1) {
			memcpy(at, &rest, 8);
			at += 8;
		}
	}
}

static void do_doorbell(struct input *in)
{
	uint8_t how = take8(in);

	if (how < 160)
		reg_write(how & 1 ? 0x1008 : 0x1000, 4, fuzzed.tail[how & 1]);
	else if (how < 224)
		reg_write(how & 1 ? 0x100c : 0x1004, 4, take8(in) % (ENTRIES + 1));
	else
		reg_write(0x1000 + take8(in) * 4, 4, how & 1 ? take64(in) & 0xffffffff : take8(in));
	uiommu_function_drain(fuzzed.fn);
}

static void do_register(struct input *in)
{
	static const uint8_t offsets[] = {0x00, 0x08, 0x0c, 0x10, CC, CSTS, 0x20, AQA, ASQ, ACQ};
	uint8_t how = take8(in);
	unsigned len = 1u << how % 4, offset = offsets[take8(in) % sizeof(offsets)];
	uint64_t value = how & 4 ? take64(in) : take8(in);

	if (how >= 224)
		offset = take16(in) % (BAR_SIZE - 8);
	if (how >= 128 && offset == CC)
		value = CC_RUN | (how & 8 ? 1 << 14 : 0);
	reg_write(offset, len, value);
	reg_read(offset, len);
	uiommu_function_drain(fuzzed.fn);
}

static void run_one(uint32_t opcode, uint64_t prp)
{
	uint32_t dw[16] = {opcode, 1, [6] = (uint32_t)prp, [10] = 3};
	unsigned slot = fuzzed.tail[1];

	command_at(IO_SQ, slot, dw);
	fuzzed.tail[1]++;
	reg_write(0x1008, 4, fuzzed.tail[1]);
	uiommu_function_drain(fuzzed.fn);
	/* Phase 1, status 0. */
	PROMISE(arena[IO_CQ * PAGE + slot * 16 + 14] == 1);
	PROMISE(arena[IO_CQ * PAGE + slot * 16 + 15] == 0);
}

/* After all that, and a reset: write a block, read it back. */
static void check_alive(void)
{
	unsigned i;

	uiommu_function_reset(fuzzed.fn);
	enable();
	PROMISE(reg_read(CSTS, 4) == 1);
	for (i = 0; i < PAGE; i++)
		arena[FREE * PAGE + i] = i + 1;
	memset(arena + (FREE + 1) * PAGE, 0, PAGE);
	run_one(1, IOVA + FREE * PAGE);
	run_one(2, IOVA + (FREE + 1) * PAGE);
	PROMISE(!memcmp(arena + FREE * PAGE, arena + (FREE + 1) * PAGE, 512));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};

	memset(memory, 0xa5, sizeof(memory));
	set_up();
	for (unsigned step = 0; in.left && step < MOST_STEPS; step++) {
		uint8_t op = take8(&in) % 8;

		if (op < 3)
			do_command(&in);
		else if (op < 5)
			do_doorbell(&in);
		else if (op == 5)
			do_list(&in);
		else if (op == 6)
			do_register(&in);
		else if (take8(&in) % 4 == 0)
			enable();
	}
	check_alive();
	for (unsigned i = 0; i < PAGE; i++)
		PROMISE(memory[i] == 0xa5 && memory[PAGE + ARENA + i] == 0xa5);
	tear_down();
	return 0;
}
