/* SPDX-License-Identifier: MIT */
/*
 * Dirty pages: what devices write to is told of exactly, in every format that has dirty bits, with
 * and without an IOTLB, through one stage and two. And a copy that follows the record beside
 * devices that go on writing, as live migration does: it must end up equal.
 */
#include "../check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include <uiommu/space.h>

#define PAGE  UINT64_C(4096)
#define MIB2  UINT64_C(0x200000)
#define PAGES 16

enum { DEVICE = 0x10 };

static const struct {
	const char *name;
	unsigned width;
	bool starts_dirty;
} formats[] = {
	{"vtd-ss", 48, false}, {"amd-v1", 48, false}, {"arm-s1", 48, true},
	{"arm-s2", 44, true},  {"riscv", 48, false},  {"vtd-fs", 48, false},
};

#define FORMATS (sizeof(formats) / sizeof(formats[0]))

/* Nothing is there, but every address will do. */
static int no_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	memset(buf, 0, len);
	return 0;
}

static int no_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	return 0;
}

static const struct uiommu_memory_ops void_ops = {
	.size = sizeof(void_ops), .read = no_read, .write = no_write};
static const struct uiommu_memory void_memory = {.ops = &void_ops};

struct rig {
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain;
	struct uiommu_port *port;
};

static void rig_up(struct rig *rig, const char *format, unsigned width, uint32_t iotlb,
		   const struct uiommu_memory *memory)
{
	const struct uiommu_unit_options uo = {
		.size = sizeof(uo), .memory = memory, .iotlb_entries = iotlb};
	const struct uiommu_domain_options options = {
		.size = sizeof(options), .format = format, .width = width, .dirty = true};

	assert_int_equal(uiommu_unit_create(&uo, &rig->unit), 0);
	assert_int_equal(uiommu_ioas_create(&rig->ioas), 0);
	assert_int_equal(uiommu_domain_create(rig->unit, rig->ioas, &options, &rig->domain), 0);
	assert_int_equal(uiommu_domain_attach(rig->domain, DEVICE, NULL, 0, "test"), 0);
	assert_int_equal(uiommu_port_create(rig->unit, DEVICE, &rig->port), 0);
	uiommu_port_set_master(rig->port, true);
}

static void rig_down(struct rig *rig)
{
	uiommu_port_destroy(rig->port);
	uiommu_domain_detach(rig->domain, DEVICE);
	uiommu_domain_destroy(rig->domain);
	uiommu_ioas_destroy(rig->ioas);
	uiommu_unit_destroy(rig->unit);
}

static struct uiommu_range range(uint64_t first, uint64_t len)
{
	return (struct uiommu_range){first, first + len - 1};
}

static void map(struct uiommu_ioas *ioas, uint64_t iova, uint64_t len, uint64_t addr, int prot)
{
	assert_int_equal(uiommu_ioas_map(ioas, range(iova, len), addr, prot, NULL), 0);
}

static void write_at(struct rig *rig, uint64_t iova)
{
	assert_int_equal(uiommu_port_write(rig->port, iova, "x", 1), 0);
}

/* ---- what is told ---- */

struct told {
	unsigned count;
	struct uiommu_range range[PAGES];
};

static void tell(void *ctx, struct uiommu_range r)
{
	struct told *told = ctx;

	assert_true(told->count < PAGES);
	told->range[told->count++] = r;
}

static void check_read(struct rig *rig, struct uiommu_range asked, int flags, unsigned count,
		       const struct uiommu_range *expected)
{
	struct told told = {0};

	assert_int_equal(uiommu_domain_dirty_read(rig->domain, asked, flags, tell, &told), 0);
	assert_int_equal(told.count, count);
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(told.range[i].first, expected[i].first);
		assert_int_equal(told.range[i].last, expected[i].last);
	}
}

static void check_clean(struct rig *rig, struct uiommu_range asked)
{
	check_read(rig, asked, 0, 0, NULL);
}

static void check_small(struct rig *rig)
{
	const struct uiommu_range all = range(0, PAGES * PAGE), page3 = range(3 * PAGE, PAGE),
				  two[] = {range(PAGE, PAGE), page3};
	char byte;

	/* Reading leaves no trace, and a write after it, which the IOTLB knows of, does. */
	check_clean(rig, all);
	for (uint64_t i = 0; i < PAGES; i++)
		assert_int_equal(uiommu_port_read(rig->port, i * PAGE, &byte, 1), 0);
	check_clean(rig, all);
	write_at(rig, 3 * PAGE + 5);
	check_read(rig, all, UIOMMU_DIRTY_KEEP, 1, &page3);
	write_at(rig, 3 * PAGE + 5);
	write_at(rig, 2 * PAGE - 1);
	check_read(rig, all, UIOMMU_DIRTY_KEEP, 2, two);
	check_read(rig, range(2 * PAGE, PAGE), 0, 0, NULL);
	check_read(rig, all, 0, 2, two);
	/* Cleared, and seen again. */
	check_clean(rig, all);
	write_at(rig, 3 * PAGE);
	check_read(rig, range(3 * PAGE, PAGE), 0, 1, &page3);
	check_clean(rig, all);
	/* Over a border. */
	assert_int_equal(uiommu_port_write(rig->port, 3 * PAGE - 4, "12345678", 8), 0);
	check_read(rig, all, 0, 2, (struct uiommu_range[]){range(2 * PAGE, PAGE), page3});
	/* Translated for writing by whoever writes itself. */
	uiommu_port_enter(rig->port);
	assert_int_equal(uiommu_port_translate(rig->port, 3 * PAGE, 4, UIOMMU_WRITE,
					       &(struct uiommu_segment){0}, &(size_t){1}),
			 4);
	uiommu_port_leave(rig->port);
	check_read(rig, all, 0, 1, &page3);
	/* By one who has looked at what has changed, and walks. */
	for (unsigned again = 0; again < 2; again++) {
		const struct uiommu_range page2 = range(2 * PAGE, PAGE);
		uint64_t addr;

		uiommu_port_enter(rig->port);
		assert_int_equal(uiommu_port_translate_one(rig->port, 0, 4, UIOMMU_READ, &addr), 4);
		assert_int_equal(
			uiommu_port_translate_one(rig->port, 2 * PAGE, 4, UIOMMU_WRITE, &addr), 4);
		assert_int_equal(
			uiommu_port_translate_one(rig->port, 3 * PAGE, 4, UIOMMU_READ, &addr), 4);
		uiommu_port_leave(rig->port);
		check_read(rig, all, 0, 1, &page2);
	}
}

/* A large leaf is one, and stays dirty for those who have not been told of it. */
static void check_large(struct rig *rig)
{
	const struct uiommu_range leaf = range(4 * MIB2, MIB2), half = range(4 * MIB2, MIB2 / 2);

	check_clean(rig, leaf);
	write_at(rig, 4 * MIB2 + 7 * PAGE);
	check_read(rig, half, 0, 1, &half);
	check_read(rig, leaf, 0, 1, &leaf);
	check_clean(rig, leaf);
	write_at(rig, 5 * MIB2 - 1);
	check_read(rig, leaf, 0, 1, &leaf);
}

/* What must not be written to is not dirty for having been tried. */
static void check_denied(struct rig *rig)
{
	const struct uiommu_range r = range(8 * MIB2, PAGE);
	struct uiommu_fault fault;
	char byte;

	map(rig->ioas, r.first, PAGE, 64 * MIB2, UIOMMU_READ);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(uiommu_port_read(rig->port, r.first, &byte, 1), 0);
		assert_int_equal(uiommu_port_write(rig->port, r.first, "x", 1), -EFAULT);
		uiommu_port_last_fault(rig->port, &fault);
		assert_int_equal(fault.reason, UIOMMU_FAULT_WRITE_DENIED);
	}
	check_clean(rig, r);
}

static void check_modes(struct rig *rig, bool starts_dirty)
{
	const struct uiommu_range all = range(0, PAGES * PAGE), extra = range(9 * MIB2, PAGE);

	/* Switched off, nothing is recorded and nothing stops; begun again, it starts clean. */
	assert_int_equal(uiommu_port_read(rig->port, 0, &(char){0}, 1), 0);
	assert_int_equal(uiommu_domain_dirty_track(rig->domain, false), 0);
	write_at(rig, 0);
	write_at(rig, PAGE);
	assert_int_equal(uiommu_domain_dirty_read(rig->domain, all, 0, tell, NULL), -EINVAL);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_ORDER);
	assert_int_equal(uiommu_domain_dirty_track(rig->domain, true), 0);
	check_clean(rig, all);
	write_at(rig, PAGE);
	check_read(rig, all, 0, 1, &(struct uiommu_range){PAGE, 2 * PAGE - 1});
	/* What is mapped while tracking is on. */
	map(rig->ioas, extra.first, PAGE, 65 * MIB2, UIOMMU_READ | UIOMMU_WRITE);
	check_read(rig, extra, 0, starts_dirty, &extra);
	check_clean(rig, extra);
	write_at(rig, extra.first);
	check_read(rig, extra, 0, 1, &extra);
}

static void test_formats(void **state)
{
	for (size_t i = 0; i < FORMATS; i++)
		for (unsigned cache = 0; cache < 2; cache++) {
			struct rig rig;

			rig_up(&rig, formats[i].name, formats[i].width,
			       cache ? 64 : UIOMMU_IOTLB_OFF, &void_memory);
			/* Apart in memory, so that no two are one leaf. */
			for (uint64_t p = 0; p < PAGES; p++)
				map(rig.ioas, p * PAGE, PAGE, (p * 2 + 1) * PAGE,
				    UIOMMU_READ | UIOMMU_WRITE);
			map(rig.ioas, 4 * MIB2, MIB2, 32 * MIB2, UIOMMU_READ | UIOMMU_WRITE);
			/* Before it begins, nobody cares. */
			write_at(&rig, 0);
			write_at(&rig, 4 * MIB2);
			assert_int_equal(uiommu_domain_dirty_track(rig.domain, true), 0);
			check_small(&rig);
			check_large(&rig);
			check_denied(&rig);
			check_modes(&rig, formats[i].starts_dirty);
			rig_down(&rig);
		}
}

/* A leaf of several entries, of which a device marks one. */
static void test_run(void **state)
{
	const struct uiommu_range leaf = range(MIB2, 16 * PAGE);
	struct rig rig;

	rig_up(&rig, "amd-v1", 48, 0, &void_memory);
	map(rig.ioas, leaf.first, 16 * PAGE, 32 * MIB2, UIOMMU_READ | UIOMMU_WRITE);
	assert_int_equal(uiommu_domain_dirty_track(rig.domain, true), 0);
	for (unsigned i = 0; i < 16; i += 5) {
		write_at(&rig, leaf.first + i * PAGE);
		check_read(&rig, leaf, 0, 1, &leaf);
		check_clean(&rig, leaf);
	}
	rig_down(&rig);
}

static void check_refused(struct rig *rig, struct uiommu_range asked, int flags,
			  enum uiommu_rule rule)
{
	struct told told = {0};

	assert_int_equal(uiommu_domain_dirty_read(rig->domain, asked, flags, tell, &told), -EINVAL);
	assert_int_equal(uiommu_last_refusal()->rule, rule);
	assert_int_equal(told.count, 0);
}

static void test_errors(void **state)
{
	struct uiommu_op op = {.kind = UIOMMU_OP_UNMAP, .range = range(2 * PAGE, PAGE)};
	const struct uiommu_range first = range(0, PAGE);
	struct uiommu_batch *batch;
	struct rig rig;

	rig_up(&rig, "vtd-ss", 48, 0, &void_memory);
	for (uint64_t p = 0; p < 4; p++)
		map(rig.ioas, p * PAGE, PAGE, (p + 1) * PAGE, UIOMMU_READ | UIOMMU_WRITE);
	map(rig.ioas, 5 * PAGE, PAGE, PAGE, UIOMMU_READ | UIOMMU_WRITE);
	check_refused(&rig, first, 0, UIOMMU_RULE_ORDER);
	assert_int_equal(uiommu_domain_dirty_track(rig.domain, true), 0);
	write_at(&rig, 0);
	check_refused(&rig, (struct uiommu_range){1, 0}, 0, UIOMMU_RULE_EMPTY);
	check_refused(&rig, first, 2, UIOMMU_RULE_ARGUMENT);
	check_refused(&rig, range(0, 6 * PAGE), 0, UIOMMU_RULE_NOT_MAPPED);
	check_refused(&rig, range(0, 5 * PAGE), 0, UIOMMU_RULE_NOT_MAPPED);
	check_refused(&rig, range(4 * PAGE, PAGE), 0, UIOMMU_RULE_NOT_MAPPED);
	check_refused(&rig, range(16 * PAGE, PAGE), 0, UIOMMU_RULE_NOT_MAPPED);
	/* Leaving is not mapped. */
	assert_int_equal(uiommu_batch_open(NULL, &batch), 0);
	op.ioas = rig.ioas;
	assert_int_equal(uiommu_batch_run(batch, &op, 1, NULL), 1);
	check_refused(&rig, range(0, 4 * PAGE), 0, UIOMMU_RULE_NOT_MAPPED);
	/* None of these has cleared anything. */
	check_read(&rig, range(0, 2 * PAGE), 0, 1, &first);
	uiommu_batch_close(batch);
	rig_down(&rig);
}

static void test_unsupported(void **state)
{
	static const char *const without[] = {"pamu", "spapr-tce", "powernv-tce"};
	struct uiommu_domain_options options = {.size = sizeof(options), .width = 36};
	struct uiommu_domain *domain;
	struct uiommu_ioas *ioas;
	struct uiommu_unit *unit;

	assert_int_equal(uiommu_unit_create(NULL, &unit), 0);
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	for (size_t i = 0; i < sizeof(without) / sizeof(without[0]); i++) {
		options.format = without[i];
		options.dirty = true;
		assert_int_equal(uiommu_domain_create(unit, ioas, &options, &domain), -EOPNOTSUPP);
		assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_UNSUPPORTED);
	}
	/* The format has them, the domain was made without. */
	options = (struct uiommu_domain_options){
		.size = sizeof(options), .format = "vtd-ss", .width = 48};
	assert_int_equal(uiommu_domain_create(unit, ioas, &options, &domain), 0);
	assert_int_equal(uiommu_domain_dirty_track(domain, true), -EOPNOTSUPP);
	assert_int_equal(uiommu_domain_dirty_track(domain, false), -EOPNOTSUPP);
	assert_int_equal(uiommu_domain_dirty_read(domain, range(0, PAGE), 0, tell, NULL),
			 -EOPNOTSUPP);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_UNSUPPORTED);
	uiommu_domain_destroy(domain);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
}

/* The stage behind another is tracked by the addresses that come out of the first. */
static void test_two_stages(void **state)
{
	const struct uiommu_range all = range(0, PAGES * PAGE), page3 = range(3 * PAGE, PAGE);
	struct uiommu_domain_options options = {
		.size = sizeof(options), .format = "vtd-ss", .width = 48};
	struct uiommu_stage1_options so = {.size = sizeof(so)};
	struct uiommu_stage1 *stage1;
	struct uiommu_domain *inner;
	struct uiommu_ioas *inner_ioas;
	struct rig rig;

	rig_up(&rig, "vtd-ss", 48, 0, &void_memory);
	for (uint64_t p = 0; p < PAGES; p++)
		map(rig.ioas, p * PAGE, PAGE, (p * 2 + 1) * PAGE, UIOMMU_READ | UIOMMU_WRITE);
	options.parent = rig.domain;
	assert_int_equal(uiommu_ioas_create(&inner_ioas), 0);
	assert_int_equal(uiommu_domain_create(rig.unit, inner_ioas, &options, &inner), 0);
	map(inner_ioas, MIB2, PAGE, 3 * PAGE, UIOMMU_READ | UIOMMU_WRITE);
	map(inner_ioas, 2 * MIB2, PAGE, 4 * PAGE, UIOMMU_READ);
	so.domain = inner;
	assert_int_equal(uiommu_stage1_create(rig.unit, &so, &stage1), 0);
	assert_int_equal(uiommu_unit_set_stage1(rig.unit, DEVICE, stage1), 0);
	assert_int_equal(uiommu_domain_dirty_track(rig.domain, true), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(uiommu_port_read(rig.port, MIB2, &(char){0}, 1), 0);
		assert_int_equal(uiommu_port_write(rig.port, 2 * MIB2, "x", 1), -EFAULT);
		check_clean(&rig, all);
		write_at(&rig, MIB2 + 8);
		check_read(&rig, all, 0, 1, &page3);
	}
	uiommu_unit_set_stage1(rig.unit, DEVICE, NULL);
	uiommu_stage1_destroy(stage1);
	uiommu_domain_destroy(inner);
	uiommu_ioas_destroy(inner_ioas);
	rig_down(&rig);
}

/* ---- a copy beside devices that write ---- */

#define WRITERS 2
#define WORDS	(PAGE / sizeof(uint64_t))

static _Atomic uint64_t (*memory)[WORDS], (*image)[WORDS];
static struct rig race_rig;
static _Atomic bool stop;
static _Atomic unsigned running;

/* Each device counts up in words of its own. */
static void *writer(void *arg)
{
	uintptr_t lane = (uintptr_t)arg;
	struct rng rng = {.state = lane};
	struct uiommu_port *port;

	if (uiommu_port_create(race_rig.unit, DEVICE, &port))
		abort();
	uiommu_port_set_master(port, true);
	for (uint64_t value = 1; !stop; value++) {
		uint64_t word = rng_below(&rng, WORDS / WRITERS) * WRITERS + lane,
			 iova = rng_below(&rng, PAGES) * PAGE + word * sizeof(value), old;

		if (rng_below(&rng, 4) == 0 && uiommu_port_read(port, iova, &old, sizeof(old)))
			abort();
		if (uiommu_port_write(port, iova, &value, sizeof(value)))
			abort();
		if (value == 100)
			running++;
	}
	uiommu_port_destroy(port);
	return NULL;
}

static void copy_page(void *ctx, struct uiommu_range r)
{
	bool *dirty = ctx;

	for (uint64_t page = r.first / PAGE; page <= r.last / PAGE; page++)
		dirty[page] = true;
}

/* Copies after the call, as it says. */
static unsigned copy_round(void)
{
	bool dirty[PAGES] = {0};
	unsigned count = 0;

	assert_int_equal(uiommu_domain_dirty_read(race_rig.domain, range(0, PAGES * PAGE), 0,
						  copy_page, dirty),
			 0);
	for (unsigned p = 0; p < PAGES; p++) {
		count += dirty[p];
		for (unsigned w = 0; dirty[p] && w < WORDS; w++)
			image[p][w] = memory[p][w];
	}
	return count;
}

static void race(const char *format, unsigned width, uint32_t iotlb, unsigned rounds)
{
	pthread_t thread[WRITERS];
	uint64_t told = 0;

	memset((void *)memory, 0, PAGES * PAGE);
	memset((void *)image, 0, PAGES * PAGE);
	stop = false;
	running = 0;
	rig_up(&race_rig, format, width, iotlb, NULL);
	for (uint64_t p = 0; p < PAGES; p++)
		map(race_rig.ioas, p * PAGE, PAGE, (uintptr_t)memory[p],
		    UIOMMU_READ | UIOMMU_WRITE);
	for (uintptr_t i = 0; i < WRITERS; i++)
		pthread_create(&thread[i], NULL, writer, (void *)i);
	while (running < WRITERS)
		sched_yield();
	/* Begun in the middle of it, so all is copied once. */
	assert_int_equal(uiommu_domain_dirty_track(race_rig.domain, true), 0);
	for (unsigned p = 0; p < PAGES; p++)
		for (unsigned w = 0; w < WORDS; w++)
			image[p][w] = memory[p][w];
	for (unsigned round = 0; round < rounds || told < PAGES; round++) {
		told += copy_round();
		sched_yield();
	}
	stop = true;
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(thread[i], NULL);
	copy_round();
	assert_memory_equal(image, memory, PAGES * PAGE);
	assert_int_equal(copy_round(), 0);
	rig_down(&race_rig);
}

static void test_race(void **state)
{
	unsigned rounds = (unsigned)test_steps(500) / 10;

	memory = aligned_alloc(PAGE, PAGES * PAGE);
	image = aligned_alloc(PAGE, PAGES * PAGE);
	for (size_t i = 0; i < FORMATS; i++) {
		race(formats[i].name, formats[i].width, 8, rounds);
		race(formats[i].name, formats[i].width, UIOMMU_IOTLB_OFF, rounds);
	}
	free((void *)memory);
	free((void *)image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats),	   cmocka_unit_test(test_run),
		cmocka_unit_test(test_errors),	   cmocka_unit_test(test_unsupported),
		cmocka_unit_test(test_two_stages), cmocka_unit_test(test_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
