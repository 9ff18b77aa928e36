/* SPDX-License-Identifier: MIT */
/*
 * Random sequences of map, unmap, reserve and DMA against a naive model: an array of pages. Each
 * answer of the engine, and each byte that DMA moves, must be the model's. Two domains, most times
 * of different formats, are kept equal by one address space, and each has a device.
 */
#include "../check.h"

#include <errno.h>

#include <uiommu/space.h>

#define PAGE UINT64_C(4096)
#define GIB  (UINT64_C(1) << 30)

/* The space looked at: pieces at the bottom, somewhere in it, and at the top of what both formats
 * translate. */
#define MOST_PAGES 1536
#define PIECES	   3
#define MEM_PAGES  2048

struct setup {
	struct uiommu_domain_options domain[2];
	bool write_is_rw[2];		    /* writing implies reading */
	struct uiommu_domain_window window; /* to be created in both */
	uint64_t middle, last;
	size_t pages; /* of a piece */
};

#define DOMAIN(f, w)                                                                  \
	{                                                                             \
		.size = sizeof(struct uiommu_domain_options), .format = f, .width = w \
	}

static const struct setup setups[] = {
	{{DOMAIN("vtd-ss", 48), DOMAIN("vtd-ss", 48)},
	 .middle = GIB - 700 * PAGE,
	 .last = (UINT64_C(1) << 48) - 1,
	 .pages = MOST_PAGES},
	{{DOMAIN("amd-v1", 64), DOMAIN("arm-s2", 43)},
	 .middle = (UINT64_C(1) << 39) - 700 * PAGE,
	 .last = (UINT64_C(1) << 43) - 1,
	 .pages = MOST_PAGES},
	{{DOMAIN("arm-s1", 48), DOMAIN("amd-v1", 48)},
	 .write_is_rw = {true},
	 .middle = GIB - 700 * PAGE,
	 .last = (UINT64_C(1) << 48) - 1,
	 .pages = MOST_PAGES},
	{{DOMAIN("vtd-fs", 57), DOMAIN("vtd-ss", 48)},
	 .write_is_rw = {true},
	 .middle = (UINT64_C(1) << 39) - 700 * PAGE,
	 .last = (UINT64_C(1) << 48) - 1,
	 .pages = MOST_PAGES},
	{{DOMAIN("arm-s1", 39), DOMAIN("riscv", 57)},
	 .write_is_rw = {true, true},
	 .middle = GIB - 700 * PAGE,
	 .last = (UINT64_C(1) << 39) - 1,
	 .pages = MOST_PAGES},
	{{DOMAIN("riscv", 48), DOMAIN("vtd-ss", 57)},
	 .write_is_rw = {true},
	 .middle = (UINT64_C(1) << 39) - 700 * PAGE,
	 .last = (UINT64_C(1) << 47) - 1,
	 .pages = MOST_PAGES},
	{{{.size = sizeof(struct uiommu_domain_options),
	   .format = "pamu",
	   .width = 36,
	   .aperture = {0, 256 * PAGE - 1}},
	  DOMAIN("amd-v1", 39)},
	 .middle = 90 * PAGE,
	 .last = 256 * PAGE - 1,
	 .pages = 80},
	{{DOMAIN("spapr-tce", 64), DOMAIN("powernv-tce", 64)},
	 .write_is_rw = {false, true},
	 .window = {.size = sizeof(struct uiommu_domain_window),
		    .range = {0, 2 * GIB - 1},
		    .page_shift = 12,
		    .levels = 1},
	 .middle = GIB - 700 * PAGE,
	 .last = 2 * GIB - 1,
	 .pages = MOST_PAGES},
};

#define SETUPS (sizeof(setups) / sizeof(setups[0]))

static size_t piece_pages;
static uint64_t piece_base[PIECES];

struct model_page {
	uint32_t area; /* 0: not mapped; else a number that all pages of one mapping share */
	uint32_t mem;  /* page of memory */
	int prot;
	bool reserved;
};

static struct model_page model[MOST_PAGES * PIECES];
static char *memory;
static uint32_t last_area;
static uint64_t model_areas;

static uint64_t iova_of(size_t page)
{
	return piece_base[page / piece_pages] + page % piece_pages * PAGE;
}

struct engine {
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain[2];
	struct uiommu_port *port[2];
	const struct setup *setup;
};

static struct uiommu_range range_of(size_t page, size_t n)
{
	return (struct uiommu_range){iova_of(page), iova_of(page) + n * PAGE - 1};
}

/* A run of pages inside one piece, sometimes aligned to 2 MiB. */
static void pick(struct rng *rng, size_t *page, size_t *n)
{
	size_t piece = rng_below(rng, PIECES), at = rng_below(rng, piece_pages);
	uint64_t most = rng_below(rng, 8) ? 16 : 1024;

	*n = 1 + rng_below(rng, most);
	if (!rng_below(rng, 6)) {
		uint64_t off = (piece_base[piece] / PAGE + at) % 512;

		at -= at >= off ? off : 0;
		*n = 512;
	}
	if (at + *n > piece_pages)
		*n = piece_pages - at;
	*page = piece * piece_pages + at;
}

static int model_map(size_t page, size_t n, size_t mem, int prot)
{
	for (size_t i = 0; i < n; i++)
		if (model[page + i].area)
			return -EEXIST;
	for (size_t i = 0; i < n; i++)
		if (model[page + i].reserved)
			return -EINVAL;
	last_area++;
	model_areas++;
	for (size_t i = 0; i < n; i++) {
		model[page + i].area = last_area;
		model[page + i].mem = mem + i;
		model[page + i].prot = prot;
	}
	return 0;
}

static bool same_area(size_t a, size_t b)
{
	return model[a].area && model[a].area == model[b].area;
}

static int model_unmap(size_t page, size_t n, uint64_t *bytes)
{
	size_t in_piece = page % piece_pages;

	*bytes = 0;
	if (in_piece && same_area(page, page - 1))
		return -EINVAL;
	if (in_piece + n < piece_pages && same_area(page + n - 1, page + n))
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (model[page + i].area && (!i || !same_area(page + i, page + i - 1)))
			model_areas--;
		if (model[page + i].area)
			*bytes += PAGE;
	}
	for (size_t i = 0; i < n; i++)
		model[page + i].area = 0;
	return 0;
}

static void step_map(struct engine *e, struct rng *rng)
{
	size_t page, n, mem;
	int prot = 1 + rng_below(rng, 3), expected;

	pick(rng, &page, &n);
	mem = rng_below(rng, MEM_PAGES - n);
	if (n == 512 && rng_below(rng, 2))
		mem &= ~(size_t)511; /* memory is 2 MiB aligned: a large leaf */
	expected = model_map(page, n, mem, prot);
	assert_int_equal(uiommu_ioas_map(e->ioas, range_of(page, n), (uintptr_t)memory + mem * PAGE,
					 prot, NULL),
			 expected);
}

static void step_unmap(struct engine *e, struct rng *rng)
{
	uint64_t bytes = 0, expected_bytes;
	struct uiommu_ioas_stats stats;
	size_t page, n;
	int expected;

	pick(rng, &page, &n);
	if (rng_below(rng, 3)) { /* mostly what is really there: widen to whole areas */
		while (page % piece_pages && same_area(page, page - 1)) {
			page--;
			n++;
		}
		while ((page + n) % piece_pages && same_area(page + n - 1, page + n))
			n++;
	}
	expected = model_unmap(page, n, &expected_bytes);
	assert_int_equal(uiommu_ioas_unmap(e->ioas, range_of(page, n), &bytes, NULL, NULL),
			 expected);
	if (!expected)
		assert_int_equal(bytes, expected_bytes);
	uiommu_ioas_stats(e->ioas, &stats);
	assert_int_equal(stats.areas, model_areas);
}

/* What is reserved now, and by whom. */
static size_t reserved_page, reserved_count;

static void release_reserve(struct engine *e)
{
	uiommu_ioas_unreserve(e->ioas, &reserved_page);
	for (size_t i = 0; i < reserved_count; i++)
		model[reserved_page + i].reserved = false;
	reserved_count = 0;
}

/* Reserve a run for a while. */
static void step_reserve(struct engine *e, struct rng *rng)
{
	size_t page, n;
	int expected = 0;

	if (reserved_count) {
		release_reserve(e);
		return;
	}
	pick(rng, &page, &n);
	for (size_t i = 0; i < n; i++)
		if (model[page + i].area)
			expected = -EADDRINUSE;
	assert_int_equal(uiommu_ioas_reserve(e->ioas, range_of(page, n), UIOMMU_RESV_RESERVED,
					     &reserved_page, "model"),
			 expected);
	if (expected)
		return;
	reserved_page = page;
	reserved_count = n;
	for (size_t i = 0; i < n; i++)
		model[page + i].reserved = true;
}

/* Is the memory that stood at an IOVA before @from written again further on in the same access? */
static bool written_later(size_t page, uint64_t offset, uint64_t from, uint64_t len, size_t mem)
{
	for (uint64_t at = from; at < len; at += PAGE - (offset + at) % PAGE) {
		const struct model_page *m = &model[page + (offset + at) / PAGE];

		if (m->area && m->mem == mem)
			return true;
	}
	return false;
}

static void step_dma(struct engine *e, struct rng *rng)
{
	static char buf[40 * 4096], old[40 * 4096];
	int access = 1 + rng_below(rng, 2);
	uint64_t offset = rng_below(rng, PAGE), len = 1 + rng_below(rng, 9 * PAGE), done = 0;
	unsigned device = rng_below(rng, 2);
	struct uiommu_port *port = e->port[device];
	bool write_is_rw = e->setup->write_is_rw[device];
	size_t page, n;
	uint64_t iova;
	int ret;

	pick(rng, &page, &n);
	iova = iova_of(page) + offset;
	if (page % piece_pages * PAGE + offset + len > piece_pages * PAGE)
		len = (piece_pages - page % piece_pages) * PAGE - offset;
	for (size_t i = 0; i < len; i++)
		buf[i] = (char)rng_next(rng);
	memcpy(old, buf, len);
	ret = access == UIOMMU_READ ? uiommu_port_read(port, iova, buf, len)
				    : uiommu_port_write(port, iova, buf, len);
	/* What the model says: page by page, until one can't be accessed. */
	while (done < len) {
		const struct model_page *m = &model[page + (offset + done) / PAGE];
		uint64_t in = (offset + done) % PAGE;
		uint64_t piece = PAGE - in < len - done ? PAGE - in : len - done;
		int prot = write_is_rw && m->prot & UIOMMU_WRITE ? 3 : m->prot;
		struct uiommu_fault fault;

		if (!m->area || !(prot & access)) {
			assert_int_equal(ret, -EFAULT);
			uiommu_port_last_fault(port, &fault);
			assert_int_equal(fault.iova, iova + done);
			if (!m->area)
				assert_int_equal(fault.reason, UIOMMU_FAULT_NOT_PRESENT);
			break;
		}
		if (access == UIOMMU_READ ||
		    !written_later(page, offset, done + piece, len, m->mem))
			assert_memory_equal(buf + done, memory + m->mem * PAGE + in, piece);
		done += piece;
	}
	if (done == len)
		assert_int_equal(ret, 0);
	if (access == UIOMMU_READ) /* beyond the fault the buffer is untouched */
		assert_memory_equal(buf + done, old + done, len - done);
}

static void set_up(struct engine *e, const struct setup *setup)
{
	struct uiommu_unit_options uo = {.size = sizeof(uo), .iotlb_entries = 64};

	e->setup = setup;
	piece_pages = setup->pages;
	piece_base[1] = setup->middle;
	piece_base[2] = setup->last + 1 - piece_pages * PAGE;
	memset(model, 0, sizeof(model));
	model_areas = 0;
	assert_int_equal(uiommu_unit_create(&uo, &e->unit), 0);
	assert_int_equal(uiommu_ioas_create(&e->ioas), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(
			uiommu_domain_create(e->unit, e->ioas, &setup->domain[i], &e->domain[i]),
			0);
		if (setup->window.size)
			assert_int_equal(uiommu_domain_window_create(e->domain[i], &setup->window),
					 0);
		assert_int_equal(uiommu_domain_attach(e->domain[i], i, NULL, 0, "dev"), 0);
		assert_int_equal(uiommu_port_create(e->unit, i, &e->port[i]), 0);
		uiommu_port_set_master(e->port[i], true);
	}
}

static void tear_down(struct engine *e)
{
	for (unsigned i = 0; i < 2; i++) {
		uiommu_port_destroy(e->port[i]);
		uiommu_domain_detach(e->domain[i], i);
		uiommu_domain_destroy(e->domain[i]);
	}
	uiommu_ioas_destroy(e->ioas);
	uiommu_unit_destroy(e->unit);
}

/* The two tables, page by page, as the driver looks them up. */
static void check_equal(struct engine *e)
{
	for (size_t page = 0; page < piece_pages * PIECES; page++) {
		const struct model_page *m = &model[page];

		for (unsigned i = 0; i < 2; i++) {
			uint64_t addr;
			int prot, ret = uiommu_domain_lookup(e->domain[i], iova_of(page) + 9, &addr,
							     &prot);

			assert_int_equal(ret, m->area ? 0 : -ENOENT);
			if (ret)
				continue;
			assert_int_equal(addr, (uintptr_t)memory + m->mem * PAGE + 9);
			assert_int_equal(prot, e->setup->write_is_rw[i] && m->prot & UIOMMU_WRITE
						       ? 3
						       : m->prot);
		}
	}
}

static void run_setup(const struct setup *setup, struct rng *rng, uint64_t steps)
{
	struct engine e;

	set_up(&e, setup);
	for (uint64_t i = 0; i < steps; i++) {
		switch (rng_below(rng, 16)) {
		case 0 ... 4:
			step_map(&e, rng);
			break;
		case 5 ... 8:
			step_unmap(&e, rng);
			break;
		case 9:
			step_reserve(&e, rng);
			break;
		default:
			step_dma(&e, rng);
		}
		if (i % 512 == 0)
			check_equal(&e);
	}
	release_reserve(&e);
	tear_down(&e);
}

static void test_model(void **state)
{
	struct rng rng = rng_seeded("model");

	memory = aligned_alloc(1 << 21, MEM_PAGES * PAGE);
	for (size_t i = 0; i < SETUPS; i++)
		run_setup(&setups[i], &rng, test_steps(150000) / SETUPS);
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
