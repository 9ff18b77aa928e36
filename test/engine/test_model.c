/* SPDX-License-Identifier: MIT */
/*
 * Random sequences of map, unmap, reserve and DMA against a naive model: an array of pages. Each
 * answer of the engine, and each byte that DMA moves, must be the model's.
 */
#include "../check.h"

#include <errno.h>

#include <uiommu/space.h>

#define PAGE UINT64_C(4096)
/* The space looked at: pieces at the bottom, around a 1 GiB boundary, and at the top of 48 bits. */
#define PIECE_PAGES 1536
#define PIECES	    3
#define PAGES	    (PIECE_PAGES * PIECES)
#define MEM_PAGES   2048

static const uint64_t piece_base[PIECES] = {
	0,
	(UINT64_C(1) << 30) - 700 * PAGE,
	(UINT64_C(1) << 48) - PIECE_PAGES *PAGE,
};

struct model_page {
	uint32_t area; /* 0: not mapped; else a number that all pages of one mapping share */
	uint32_t mem;  /* page of memory */
	int prot;
	bool reserved;
};

static struct model_page model[PAGES];
static char *memory;
static uint32_t last_area;
static uint64_t model_areas;

static uint64_t iova_of(size_t page)
{
	return piece_base[page / PIECE_PAGES] + page % PIECE_PAGES * PAGE;
}

struct engine {
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain[2];
	struct uiommu_port *port[2];
};

static struct uiommu_range range_of(size_t page, size_t n)
{
	return (struct uiommu_range){iova_of(page), iova_of(page) + n * PAGE - 1};
}

/* A run of pages inside one piece, sometimes aligned to 2 MiB. */
static void pick(struct rng *rng, size_t *page, size_t *n)
{
	size_t piece = rng_below(rng, PIECES), at = rng_below(rng, PIECE_PAGES);
	uint64_t most = rng_below(rng, 8) ? 16 : 1024;

	*n = 1 + rng_below(rng, most);
	if (!rng_below(rng, 6)) {
		uint64_t off = (piece_base[piece] / PAGE + at) % 512;

		at -= at >= off ? off : 0;
		*n = 512;
	}
	if (at + *n > PIECE_PAGES)
		*n = PIECE_PAGES - at;
	*page = piece * PIECE_PAGES + at;
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
	size_t in_piece = page % PIECE_PAGES;

	*bytes = 0;
	if (in_piece && same_area(page, page - 1))
		return -EINVAL;
	if (in_piece + n < PIECE_PAGES && same_area(page + n - 1, page + n))
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
		while (page % PIECE_PAGES && same_area(page, page - 1)) {
			page--;
			n++;
		}
		while ((page + n) % PIECE_PAGES && same_area(page + n - 1, page + n))
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

/* Reserve a run for a while. */
static void step_reserve(struct engine *e, struct rng *rng)
{
	static int owner;
	static size_t page, n;
	int expected = 0;

	if (n) {
		uiommu_ioas_unreserve(e->ioas, &owner);
		for (size_t i = 0; i < n; i++)
			model[page + i].reserved = false;
		n = 0;
		return;
	}
	pick(rng, &page, &n);
	for (size_t i = 0; i < n; i++)
		if (model[page + i].area)
			expected = -EADDRINUSE;
	assert_int_equal(uiommu_ioas_reserve(e->ioas, range_of(page, n), UIOMMU_RESV_RESERVED,
					     &owner, "model"),
			 expected);
	if (expected)
		n = 0;
	for (size_t i = 0; i < n; i++)
		model[page + i].reserved = true;
}

/* Does a later page of an access to the pages up to last go to the same memory as this one? */
static bool written_again(size_t page, size_t last, int access)
{
	for (size_t i = page + 1; i <= last && model[i].area && (model[i].prot & access); i++)
		if (model[i].mem == model[page].mem)
			return true;
	return false;
}

static void step_dma(struct engine *e, struct rng *rng)
{
	static char buf[40 * 4096], old[40 * 4096];
	int access = 1 + rng_below(rng, 2);
	uint64_t offset = rng_below(rng, PAGE), len = 1 + rng_below(rng, 9 * PAGE), done = 0;
	struct uiommu_port *port = e->port[rng_below(rng, 2)];
	size_t page, n;
	uint64_t iova;
	int ret;

	pick(rng, &page, &n);
	iova = iova_of(page) + offset;
	if (page % PIECE_PAGES * PAGE + offset + len > PIECE_PAGES * PAGE)
		len = (PIECE_PAGES - page % PIECE_PAGES) * PAGE - offset;
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
		struct uiommu_fault fault;

		if (!m->area || !(m->prot & access)) {
			assert_int_equal(ret, -EFAULT);
			uiommu_port_last_fault(port, &fault);
			assert_int_equal(fault.iova, iova + done);
			if (!m->area)
				assert_int_equal(fault.reason, UIOMMU_FAULT_NOT_PRESENT);
			break;
		}
		if (access == UIOMMU_READ ||
		    !written_again(page + (offset + done) / PAGE, page + (offset + len - 1) / PAGE,
				   access))
			assert_memory_equal(buf + done, memory + m->mem * PAGE + in, piece);
		done += piece;
	}
	if (done == len)
		assert_int_equal(ret, 0);
	if (access == UIOMMU_READ) /* beyond the fault the buffer is untouched */
		assert_memory_equal(buf + done, old + done, len - done);
}

static void test_model(void **state)
{
	struct uiommu_unit_options uo = {.size = sizeof(uo), .iotlb_entries = 64};
	struct uiommu_domain_options dopt = {.size = sizeof(dopt), .format = "vtd-ss", .width = 48};
	struct rng rng = rng_seeded("model");
	uint64_t steps = test_steps(150000);
	struct engine e;

	memory = aligned_alloc(1 << 21, MEM_PAGES * PAGE);
	assert_int_equal(uiommu_unit_create(&uo, &e.unit), 0);
	assert_int_equal(uiommu_ioas_create(&e.ioas), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(uiommu_domain_create(e.unit, e.ioas, &dopt, &e.domain[i]), 0);
		assert_int_equal(uiommu_domain_attach(e.domain[i], i, NULL, 0, "dev"), 0);
		assert_int_equal(uiommu_port_create(e.unit, i, &e.port[i]), 0);
		uiommu_port_set_master(e.port[i], true);
	}
	for (uint64_t i = 0; i < steps; i++) {
		switch (rng_below(&rng, 16)) {
		case 0 ... 4:
			step_map(&e, &rng);
			break;
		case 5 ... 8:
			step_unmap(&e, &rng);
			break;
		case 9:
			step_reserve(&e, &rng);
			break;
		default:
			step_dma(&e, &rng);
		}
	}
	for (unsigned i = 0; i < 2; i++) {
		uiommu_port_destroy(e.port[i]);
		uiommu_domain_detach(e.domain[i], i);
		uiommu_domain_destroy(e.domain[i]);
	}
	uiommu_ioas_destroy(e.ioas);
	uiommu_unit_destroy(e.unit);
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
