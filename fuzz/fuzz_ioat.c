/* SPDX-License-Identifier: MIT */
/*
 * fuzz_ioat - the I/OAT engine with arbitrary descriptors and register writes. Its memory is an
 * arena of two pages at a known IOVA, between two pages it must never touch.
 *
 * Promised: it never reaches other memory, never hangs (each doorbell adds few descriptors, and
 * each has an end), and after a reset it does an honest copy.
 */
#include "fuzz.h"

#include <errno.h>

#include <uiommu/device.h>

enum { PAGE = 4096, ARENA = 2 * PAGE, IOVA = 0x10000, MOST_STEPS = 64, BAR_SIZE = 16384 };
enum { CHANCTRL = 0x80, CHANCMD = 0x84, DMACOUNT = 0x86, CHANSTS = 0x88, CHAINADDR = 0x90 };
enum { CHANCMP = 0x98, CHANERR = 0xa8, RESET = 0x20, COMMAND = 4, DONE = 1 };

static uint8_t memory[PAGE + ARENA + PAGE];
static uint8_t *const arena = memory + PAGE;

static int check(uint64_t addr, size_t len)
{
	PROMISE(addr >= PAGE && addr - PAGE < ARENA && len <= ARENA - (addr - PAGE));
	return 0;
}

static int dma_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	check(addr, len);
	memcpy(buf, memory + addr, len);
	return 0;
}

static int dma_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	check(addr, len);
	memcpy(memory + addr, buf, len);
	return 0;
}

static const struct uiommu_memory_ops ops = {
	.size = sizeof(ops), .read = dma_read, .write = dma_write};
static const struct uiommu_memory arena_memory = {.ops = &ops};

static struct {
	struct uiommu_machine *machine;
	struct uiommu_function *fn;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain;
	uint16_t count; /* the doorbell's last value */
} engine;

static void reg_write(unsigned offset, unsigned len, uint64_t value)
{
	PROMISE(uiommu_function_bar_write(engine.fn, 0, offset, &value, len) == 0);
}

static uint64_t reg_read(unsigned offset, unsigned len)
{
	uint64_t value = 0;

	PROMISE(uiommu_function_bar_read(engine.fn, 0, offset, &value, len) == 0);
	return value;
}

static void enable(void)
{
	uiommu_function_config_write(engine.fn, COMMAND, 2, 6);
}

static void set_up(void)
{
	struct uiommu_machine_options options = {.size = sizeof(options), .memory = &arena_memory};
	struct uiommu_range range = {IOVA, IOVA + ARENA - 1};
	const struct uiommu_platform_facts *facts;
	struct uiommu_domain_options domain = {.size = sizeof(domain)};
	char why[256] = "";

	PROMISE(uiommu_machine_create(&options, &engine.machine, why, sizeof(why)) == 0);
	PROMISE(uiommu_machine_add(engine.machine, "ioat", why, sizeof(why)) == 0);
	engine.fn = uiommu_machine_function(engine.machine, 0);
	facts = uiommu_platform_facts(uiommu_machine_platform(engine.machine));
	domain.format = facts->format;
	domain.width = facts->width;
	PROMISE(uiommu_ioas_create(&engine.ioas) == 0);
	PROMISE(uiommu_domain_create(uiommu_machine_unit(engine.machine), engine.ioas, &domain,
				     &engine.domain) == 0);
	PROMISE(uiommu_domain_attach(engine.domain, uiommu_function_info(engine.fn)->rid,
				     facts->regions, facts->region_count, "ioat") == 0);
	PROMISE(uiommu_ioas_map(engine.ioas, range, PAGE, UIOMMU_READ | UIOMMU_WRITE, NULL) == 0);
	engine.count = 0;
	enable();
}

static void tear_down(void)
{
	uint16_t rid = uiommu_function_info(engine.fn)->rid;

	uiommu_function_reset(engine.fn);
	uiommu_domain_detach(engine.domain, rid);
	uiommu_domain_destroy(engine.domain);
	uiommu_ioas_destroy(engine.ioas);
	uiommu_machine_destroy(engine.machine);
}

/* Addresses the engine is given: mostly in the arena, now and then anything at all. */
static uint64_t take_address(struct input *in)
{
	uint8_t how = take8(in);

	if (how < 192)
		return IOVA + take8(in) % (ARENA / 64) * 64;
	if (how < 224)
		return IOVA + take16(in);
	return how < 240 ? 0xfee00000 + take16(in) : take64(in);
}

static void do_descriptor(struct input *in)
{
	struct {
		uint32_t size, control;
		uint64_t src, dst, next, rest[4];
	} d = {0};
	unsigned at = take8(in) % (ARENA / 64) * 64;
	uint8_t how = take8(in);

	if (how >= 240) {
		take(in, &d, sizeof(d));
	} else {
		d.size = how % 16 ? take16(in) % 512 : (uint32_t)take64(in);
		d.control = take8(in) | (how % 4 == 3 ? (uint32_t)take8(in) << 24 : 0);
		d.src = take_address(in);
		d.dst = take_address(in);
		d.next = take_address(in);
	}
	memcpy(arena + at, &d, sizeof(d));
}

/* Some more descriptors to run: few, so that a chain that loops is over soon. */
static void do_doorbell(struct input *in)
{
	engine.count += take8(in) % 32;
	reg_write(DMACOUNT, 2, engine.count);
	uiommu_function_drain(engine.fn);
}

static void do_register(struct input *in)
{
	static const uint8_t offsets[] = {0x02,	   0x03,    0x04,    0x08, CHANCTRL, CHANCMD,
					  CHANSTS, CHANCMP, CHANERR, 0xac, 0xb0};
	uint8_t how = take8(in);
	unsigned len = 1u << how % 4;
	unsigned offset = offsets[take8(in) % sizeof(offsets)];
	uint64_t value = how & 4 ? take64(in) : take8(in);

	if (how >= 192) {
		offset = take16(in) % (BAR_SIZE - 8);
		value = take64(in);
	}
	if (offset + len > DMACOUNT && offset < DMACOUNT + 2)
		return; /* doorbells are do_doorbell()'s */
	if (offset == CHANCMP)
		value = take_address(in);
	reg_write(offset, len, value);
	reg_read(offset, len);
}

static void do_chain(struct input *in)
{
	reg_write(CHAINADDR, 8, take_address(in));
	engine.count = 0;
}

/* After all that, and a reset: a copy. */
static void check_alive(void)
{
	const uint64_t descriptor[8] = {64 | UINT64_C(8) << 32, IOVA + PAGE, IOVA + PAGE + 64,
					IOVA};

	uiommu_function_reset(engine.fn);
	enable();
	memcpy(arena, descriptor, sizeof(descriptor));
	for (unsigned i = 0; i < 64; i++)
		arena[PAGE + i] = i + 1;
	reg_write(CHANCMD, 1, RESET);
	reg_write(CHANCTRL, 2, 0x1d);
	reg_write(CHANCMP, 8, IOVA + 1024);
	reg_write(CHAINADDR, 8, IOVA);
	reg_write(DMACOUNT, 2, 1);
	uiommu_function_drain(engine.fn);
	PROMISE((reg_read(CHANSTS, 8) & 7) == DONE);
	PROMISE(!memcmp(arena + PAGE, arena + PAGE + 64, 64));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};

	set_up();
	memset(memory, 0xa5, sizeof(memory));
	reg_write(CHANCMP, 8, IOVA + 1024);
	for (unsigned step = 0; in.left && step < MOST_STEPS; step++) {
		uint8_t op = take8(&in) % 8;

		if (op < 3)
			do_descriptor(&in);
		else if (op < 5)
			do_doorbell(&in);
		else if (op == 5)
			do_register(&in);
		else if (op == 6)
			do_chain(&in);
		else if (take8(&in) % 8 == 0)
			enable();
	}
	check_alive();
	for (unsigned i = 0; i < PAGE; i++)
		PROMISE(memory[i] == 0xa5 && memory[PAGE + ARENA + i] == 0xa5);
	tear_down();
	return 0;
}
