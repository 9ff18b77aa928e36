/* SPDX-License-Identifier: MIT */
/*
 * Batches: what each operation answers, what others see while one is open, what failing allocations
 * leave behind; and a model: whatever a batch is cut into, it ends as if it had not been cut.
 */
#include "../check.h"

#include <errno.h>
#include <pthread.h>

#include <uiommu/space.h>

#define PAGE   UINT64_C(4096)
#define RW     (UIOMMU_READ | UIOMMU_WRITE)
#define PAGES  48 /* of IOVA that the model plays with, in each of its address spaces */
#define SPACES 3
#define FRAMES 64
#define OPS    12

/* ---- a rig: address spaces, and an owner who counts references ---- */

struct rig {
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas[SPACES];
	struct uiommu_domain *domain[SPACES]; /* the last IOAS has two, the first none */
	struct uiommu_domain *second;
	int refs[FRAMES];
	uint64_t released; /* areas */
	int refuse;	   /* what hold answers */
};

static int hold(void *ctx, const struct uiommu_op *op, const struct uiommu_area *area)
{
	struct rig *rig = ctx;

	if (rig->refuse)
		return rig->refuse;
	for (uint64_t at = area->addr; at < area->addr + (area->range.last - area->range.first);
	     at += PAGE)
		rig->refs[at / PAGE]++;
	return 0;
}

static void release(void *ctx, const struct uiommu_area *area)
{
	struct rig *rig = ctx;

	for (uint64_t at = area->addr; at < area->addr + (area->range.last - area->range.first);
	     at += PAGE)
		rig->refs[at / PAGE]--;
	rig->released++;
}

static struct uiommu_batch_options options_of(struct rig *rig)
{
	return (struct uiommu_batch_options){.size = sizeof(struct uiommu_batch_options),
					     .hold = hold,
					     .release = release,
					     .ctx = rig};
}

static void setup(struct rig *rig)
{
	const struct uiommu_domain_options o = {.size = sizeof(o), .format = "vtd-ss", .width = 48};

	memset(rig, 0, sizeof(*rig));
	assert_int_equal(uiommu_unit_create(NULL, &rig->unit), 0);
	for (unsigned i = 0; i < SPACES; i++) {
		assert_int_equal(uiommu_ioas_create(&rig->ioas[i]), 0);
		if (i)
			assert_int_equal(
				uiommu_domain_create(rig->unit, rig->ioas[i], &o, &rig->domain[i]),
				0);
	}
	assert_int_equal(uiommu_domain_create(rig->unit, rig->ioas[SPACES - 1], &o, &rig->second),
			 0);
}

static void teardown(struct rig *rig)
{
	uiommu_domain_destroy(rig->second);
	for (unsigned i = 0; i < SPACES; i++) {
		uiommu_domain_destroy(rig->domain[i]);
		uiommu_ioas_destroy(rig->ioas[i]);
	}
	uiommu_unit_destroy(rig->unit);
}

static struct uiommu_range pages(uint64_t first, uint64_t n)
{
	return (struct uiommu_range){first * PAGE, (first + n) * PAGE - 1};
}

static struct uiommu_op op_map(struct uiommu_ioas *ioas, uint64_t page, uint64_t n, uint64_t frame)
{
	return (struct uiommu_op){.kind = UIOMMU_OP_MAP,
				  .prot = RW,
				  .ioas = ioas,
				  .range = pages(page, n),
				  .addr = frame * PAGE};
}

static struct uiommu_op op_unmap(struct uiommu_ioas *ioas, uint64_t page, uint64_t n)
{
	return (struct uiommu_op){.kind = UIOMMU_OP_UNMAP, .ioas = ioas, .range = pages(page, n)};
}

static struct uiommu_op op_copy(struct uiommu_ioas *ioas, uint64_t page, uint64_t n,
				struct uiommu_ioas *source, uint64_t from)
{
	return (struct uiommu_op){.kind = UIOMMU_OP_COPY,
				  .prot = RW,
				  .ioas = ioas,
				  .range = pages(page, n),
				  .source = source,
				  .addr = from * PAGE};
}

static uint64_t flushes(struct rig *rig)
{
	struct uiommu_unit_stats stats;

	uiommu_unit_stats(rig->unit, &stats);
	return stats.flushes;
}

/* The frame at a page of a domain, or -1. */
static int frame_at(struct uiommu_domain *domain, uint64_t page)
{
	uint64_t addr;
	int prot;

	return uiommu_domain_lookup(domain, page * PAGE, &addr, &prot) ? -1 : (int)(addr / PAGE);
}

/* ---- by hand ---- */

static void test_one_flush(void **state)
{
	struct uiommu_op ops[6];
	struct rig rig;

	setup(&rig);
	ops[0] = op_map(rig.ioas[1], 0, 1, 1);
	ops[1] = op_map(rig.ioas[2], 0, 4, 8);
	ops[2] = op_unmap(rig.ioas[1], 0, 1);
	ops[3] = op_map(rig.ioas[1], 4, 1, 2);
	ops[4] = op_unmap(rig.ioas[2], 0, 4);
	ops[5] = op_unmap(rig.ioas[1], 4, 1);
	assert_int_equal(uiommu_batch_submit(ops, 6, NULL), 0);
	assert_int_equal(flushes(&rig), 3); /* one for each of the three domains */
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(ops[i].status, 0);
	assert_int_equal(ops[4].bytes, 4 * PAGE);
	/* Nothing taken away, nothing flushed. */
	ops[0] = op_map(rig.ioas[1], 0, 1, 1);
	ops[1] = op_unmap(rig.ioas[1], 8, 4);
	assert_int_equal(uiommu_batch_submit(ops, 2, NULL), 0);
	assert_int_equal(ops[1].bytes, 0);
	assert_int_equal(flushes(&rig), 3);
	uiommu_ioas_unmap(rig.ioas[1], pages(0, 1), NULL, NULL, NULL);
	teardown(&rig);
}

static void test_statuses(void **state)
{
	struct rig rig;

	setup(&rig);
	{
		struct uiommu_op bad = op_map(rig.ioas[1], 9, 1, 1),
				 copied = op_copy(rig.ioas[1], 20, 2, rig.ioas[2], 0);
		struct uiommu_op kind = bad, empty = bad, skew = bad, none = bad, wraps = copied,
				 source = copied;
		bad.prot = 0;
		kind.kind = 7;
		empty.range = (struct uiommu_range){1, 0};
		skew.addr = 1;
		none.ioas = NULL;
		wraps.addr = -PAGE;
		source.source = NULL;
		struct uiommu_op ops[] = {
			op_map(rig.ioas[1], 0, 4, 1),
			bad,
			kind,
			empty,
			skew,
			none,
			op_map(rig.ioas[1], 3, 2, 1), /* EEXIST */
			op_unmap(rig.ioas[1], 1, 1),  /* would split */
			copied,			      /* nothing there */
			wraps,
			source,
			op_map(rig.ioas[2], 0, 1, 3),
			copied, /* half of it there */
			op_map(rig.ioas[2], 1, 1, 9),
			copied, /* all of it, in two areas */
			op_unmap(rig.ioas[2], 0, 2),
			copied, /* it has been unmapped */
			op_unmap(rig.ioas[1], 0, PAGES),
		};
		const int expect[] = {0,       -EINVAL, -EINVAL, -EINVAL,    -EINVAL, -EINVAL,
				      -EEXIST, -EINVAL, -ENOENT, -EOVERFLOW, -EINVAL, 0,
				      -ENOENT, 0,	0,	 0,	     -EEXIST, 0};

		assert_int_equal(uiommu_batch_submit(ops, sizeof(ops) / sizeof(ops[0]), NULL),
				 -EINVAL);
		for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
			if (ops[i].status != expect[i])
				fail_msg("operation %u: %d, not %d", i, ops[i].status, expect[i]);
		assert_int_equal(ops[17].bytes, 6 * PAGE);
	}
	teardown(&rig);
}

/* A copy shares the memory, not the mapping. */
static void test_copy(void **state)
{
	struct uiommu_area area;
	struct rig rig;

	setup(&rig);
	assert_int_equal(uiommu_ioas_map(rig.ioas[1], pages(0, 4), 8 * PAGE, UIOMMU_READ, &area),
			 0);
	assert_int_equal(
		uiommu_ioas_copy(rig.ioas[2], pages(10, 2), rig.ioas[1], 1 * PAGE, RW, NULL),
		-EPERM);
	assert_int_equal(uiommu_ioas_copy(rig.ioas[2], pages(10, 2), rig.ioas[1], 1 * PAGE,
					  UIOMMU_READ, &rig),
			 0);
	assert_int_equal(
		uiommu_ioas_copy(rig.ioas[1], pages(4, 1), rig.ioas[1], 0, UIOMMU_READ, NULL), 0);
	assert_int_equal(uiommu_ioas_unmap(rig.ioas[1], pages(0, 4), NULL, NULL, NULL), 0);
	assert_int_equal(frame_at(rig.domain[2], 10), 9);
	assert_int_equal(frame_at(rig.second, 11), 10);
	assert_int_equal(frame_at(rig.domain[1], 4), 8);
	assert_int_equal(frame_at(rig.domain[1], 0), -1);
	/* Without a tag of its own a copy has its source's. */
	assert_int_equal(uiommu_ioas_find(rig.ioas[1], 4 * PAGE, &area), 0);
	assert_ptr_equal(area.tag, &area);
	assert_int_equal(uiommu_ioas_find(rig.ioas[2], 0, &area), 0);
	assert_ptr_equal(area.tag, &rig);
	assert_int_equal(area.prot, UIOMMU_READ);
	uiommu_ioas_unmap(rig.ioas[1], pages(0, 8), NULL, NULL, NULL);
	uiommu_ioas_unmap(rig.ioas[2], pages(0, 16), NULL, NULL, NULL);
	teardown(&rig);
}

/* What others see, and what the batch itself may do, between an unmap and the flush. */
static void test_in_transition(void **state)
{
	struct uiommu_batch_options options;
	struct uiommu_domain_options o = {.size = sizeof(o), .format = "vtd-ss", .width = 48};
	struct uiommu_batch *batch, *other;
	struct uiommu_domain *late;
	struct uiommu_area area;
	struct uiommu_op op;
	struct rig rig;

	setup(&rig);
	options = options_of(&rig);
	assert_int_equal(uiommu_batch_open(&options, &batch), 0);
	assert_int_equal(uiommu_batch_open(&options, &other), 0);
	op = op_map(rig.ioas[1], 0, 8, 8);
	assert_int_equal(uiommu_batch_run(batch, &op, 1, NULL), 1);
	op = op_unmap(rig.ioas[1], 0, 8);
	assert_int_equal(uiommu_batch_run(batch, &op, 1, NULL), 1);
	assert_int_equal(op.bytes, 8 * PAGE);

	/* Not released, not flushed, still listed, nobody else's; and not in the table. */
	assert_int_equal(rig.released, 0);
	assert_int_equal(flushes(&rig), 0);
	assert_int_equal(uiommu_ioas_find(rig.ioas[1], 0, &area), 0);
	assert_int_equal(frame_at(rig.domain[1], 0), -1);
	assert_int_equal(uiommu_ioas_map(rig.ioas[1], pages(7, 2), 0, RW, NULL), -EBUSY);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_BUSY);
	assert_int_equal(uiommu_ioas_unmap(rig.ioas[1], pages(0, 20), NULL, NULL, NULL), -EBUSY);
	assert_int_equal(uiommu_ioas_move(rig.ioas[1], pages(0, 8), 0), -EBUSY);
	assert_int_equal(uiommu_ioas_copy(rig.ioas[2], pages(0, 1), rig.ioas[1], 0, RW, NULL),
			 -EBUSY);
	assert_int_equal(
		uiommu_ioas_reserve(rig.ioas[1], pages(2, 1), UIOMMU_RESV_RESERVED, &rig, "me"),
		-EADDRINUSE);
	op = op_map(rig.ioas[1], 2, 1, 1);
	uiommu_batch_run(other, &op, 1, NULL);
	assert_int_equal(op.status, -EBUSY);
	assert_int_equal(uiommu_ioas_map(rig.ioas[1], pages(8, 1), 0, RW, NULL), 0); /* beside it */
	/* A domain made meanwhile doesn't get what is leaving. */
	assert_int_equal(uiommu_domain_create(rig.unit, rig.ioas[1], &o, &late), 0);
	assert_int_equal(frame_at(late, 0), -1);
	assert_int_equal(frame_at(late, 8), 0);
	uiommu_domain_destroy(late);

	/* To the batch it is gone: a copy finds nothing, an unmap nothing to do, a map its place.
	 */
	op = op_copy(rig.ioas[2], 0, 1, rig.ioas[1], 0);
	uiommu_batch_run(batch, &op, 1, NULL);
	assert_int_equal(op.status, -ENOENT);
	op = op_unmap(rig.ioas[1], 3, 1);
	uiommu_batch_run(batch, &op, 1, NULL);
	assert_int_equal(op.status, 0);
	assert_int_equal(op.bytes, 0);
	op = op_map(rig.ioas[1], 2, 3, 40); /* in its middle */
	uiommu_batch_run(batch, &op, 1, NULL);
	assert_int_equal(op.status, 0);
	assert_int_equal(frame_at(rig.domain[1], 2), 40);
	assert_int_equal(frame_at(rig.domain[1], 5), -1);
	assert_int_equal(rig.refs[10], 1); /* the old memory is held still */
	assert_int_equal(rig.refs[40], 1);
	assert_int_equal(uiommu_ioas_map(rig.ioas[1], pages(6, 1), 0, RW, NULL), -EBUSY);
	assert_int_equal(uiommu_ioas_map(rig.ioas[1], pages(3, 1), 0, RW, NULL), -EEXIST);
	assert_int_equal(uiommu_ioas_find(rig.ioas[1], 0, &area), 0);
	assert_int_equal(area.range.first, 2 * PAGE); /* what only keeps IOVAs is no area */
	assert_int_equal(flushes(&rig), 0);

	uiommu_batch_finish(batch);
	assert_int_equal(flushes(&rig), 1);
	assert_int_equal(rig.released, 1);
	assert_int_equal(rig.refs[10], 0);
	assert_int_equal(uiommu_ioas_map(rig.ioas[1], pages(5, 3), 0, RW, NULL), 0);
	assert_int_equal(uiommu_ioas_map(rig.ioas[1], pages(0, 2), 0, RW, NULL), 0);
	uiommu_batch_close(other);
	op = op_unmap(rig.ioas[1], 0, 3 * PAGES);
	uiommu_batch_run(batch, &op, 1, NULL);
	assert_int_equal(op.bytes, 9 * PAGE);
	uiommu_batch_close(batch); /* finishes */
	assert_int_equal(flushes(&rig), 2);
	teardown(&rig);
}

/* One flush serves every batch that took something away before it. */
static void test_shared_flush(void **state)
{
	struct uiommu_batch *a, *b;
	struct uiommu_op ops[2];
	struct rig rig;

	setup(&rig);
	ops[0] = op_map(rig.ioas[1], 0, 1, 1);
	ops[1] = op_map(rig.ioas[1], 1, 1, 2);
	assert_int_equal(uiommu_batch_submit(ops, 2, NULL), 0);
	uiommu_batch_open(NULL, &a);
	uiommu_batch_open(NULL, &b);
	ops[0] = op_unmap(rig.ioas[1], 0, 1);
	ops[1] = op_unmap(rig.ioas[1], 1, 1);
	uiommu_batch_run(a, &ops[0], 1, NULL);
	uiommu_batch_run(b, &ops[1], 1, NULL);
	uiommu_batch_finish(a);
	assert_int_equal(flushes(&rig), 1);
	assert_int_equal(uiommu_ioas_map(rig.ioas[1], pages(1, 1), 0, RW, NULL), -EBUSY);
	assert_int_equal(uiommu_ioas_map(rig.ioas[1], pages(0, 1), 0, RW, NULL), 0);
	uiommu_batch_finish(b);
	assert_int_equal(flushes(&rig), 1); /* had been flushed with a's */
	ops[0] = op_unmap(rig.ioas[1], 0, 1);
	uiommu_batch_run(b, &ops[0], 1, NULL);
	uiommu_batch_close(a);
	uiommu_batch_close(b);
	assert_int_equal(flushes(&rig), 2);
	teardown(&rig);
}

static bool stop_at_third(void *ctx)
{
	return ++*(unsigned *)ctx >= 3;
}

static void test_budgets(void **state)
{
	struct uiommu_budget none = {0}, two = {.ops = 2}, time = {.nanoseconds = 1},
			     hook = {.stop = stop_at_third};
	struct uiommu_batch_options wrong = {.size = sizeof(wrong) + 8};
	struct uiommu_op ops[8];
	struct uiommu_batch *batch;
	unsigned asked = 0;
	struct rig rig;

	setup(&rig);
	hook.ctx = &asked;
	for (unsigned i = 0; i < 8; i++)
		ops[i] = op_map(rig.ioas[1], i, 1, i);
	assert_int_equal(uiommu_batch_open(&wrong, &batch), -E2BIG);
	wrong.size = 1;
	assert_int_equal(uiommu_batch_submit(ops, 8, &wrong), -EINVAL);
	assert_int_equal(uiommu_batch_open(NULL, &batch), 0);
	assert_int_equal(uiommu_batch_run(batch, ops, 0, NULL), 0);
	assert_int_equal(uiommu_batch_run(batch, ops, 8, &two), 2);
	assert_int_equal(uiommu_batch_run(batch, ops + 2, 6, &time), 1);
	assert_int_equal(uiommu_batch_run(batch, ops + 3, 5, &hook), 3);
	assert_int_equal(uiommu_batch_run(batch, ops + 6, 2, &none), 2);
	uiommu_batch_close(batch);
	assert_int_equal(frame_at(rig.domain[1], 7), 7);
	uiommu_ioas_unmap(rig.ioas[1], pages(0, 8), NULL, NULL, NULL);
	teardown(&rig);
}

/* ---- failing ---- */

/* A batch of all kinds over a space where they must replace, cut and copy. */
static unsigned make_ops(struct rig *rig, struct uiommu_op *ops)
{
	unsigned n = 0;

	ops[n++] = op_unmap(rig->ioas[2], 0, 4);
	ops[n++] = op_map(rig->ioas[2], 1, 1, 20); /* inside what left */
	ops[n++] = op_unmap(rig->ioas[2], 8, 4);
	ops[n++] = op_map(rig->ioas[2], 3, 7, 30); /* over two that left, beyond both */
	ops[n++] = op_copy(rig->ioas[1], 100, 2, rig->ioas[2], 16);
	ops[n++] = op_unmap(rig->ioas[1], 100, 2);
	ops[n++] = op_copy(rig->ioas[1], 100, 2, rig->ioas[2], 16);
	ops[n++] = op_map(rig->ioas[2], 1 << 20, 1, 40); /* needs tables */
	return n;
}

static uint64_t areas_of(struct uiommu_ioas *ioas)
{
	struct uiommu_ioas_stats stats;

	uiommu_ioas_stats(ioas, &stats);
	return stats.areas;
}

/* Every allocation fails once: no reference is lost, and each space is what the statuses say. */
static void test_no_memory(void **state)
{
	long fails = 0;

	uiommu_set_allocator(failing_alloc, failing_release);
	for (long n = 0;; n++) {
		struct uiommu_batch_options options;
		struct uiommu_op ops[OPS], undo[2];
		uint64_t mapped = 0;
		unsigned count;
		struct rig rig;
		bool failed;

		setup(&rig);
		options = options_of(&rig);
		ops[0] = op_map(rig.ioas[2], 0, 4, 0);
		ops[1] = op_map(rig.ioas[2], 8, 4, 8);
		ops[2] = op_map(rig.ioas[2], 16, 1, 16);
		ops[3] = op_map(rig.ioas[2], 17, 1, 18);
		assert_int_equal(uiommu_batch_submit(ops, 4, &options), 0);
		count = make_ops(&rig, ops);
		fail_countdown = n;
		uiommu_batch_submit(ops, count, &options);
		failed = fail_countdown < 0;
		fail_countdown = -1;
		for (unsigned i = 0; i < count; i++) {
			/* -EEXIST: an unmap before it had failed. -ENOENT never: the source stays.
			 */
			if (ops[i].status && ops[i].status != -ENOMEM && ops[i].status != -EEXIST)
				fail_msg("allocation %ld: operation %u: %d", n, i, ops[i].status);
			fails += ops[i].status == -ENOMEM;
		}
		for (unsigned i = 0; i < FRAMES; i++)
			mapped += (uint64_t)rig.refs[i];
		undo[0] = op_unmap(rig.ioas[1], 0, 1 << 21);
		undo[1] = op_unmap(rig.ioas[2], 0, 1 << 21);
		assert_int_equal(uiommu_batch_submit(undo, 2, &options), 0);
		assert_int_equal(undo[0].bytes + undo[1].bytes, mapped * PAGE);
		for (unsigned i = 0; i < FRAMES; i++)
			assert_int_equal(rig.refs[i], 0);
		assert_int_equal(areas_of(rig.ioas[1]) + areas_of(rig.ioas[2]), 0);
		teardown(&rig);
		assert_int_equal(fail_live, 0);
		if (!failed)
			break;
	}
	uiommu_set_allocator(NULL, NULL);
	assert_true(fails > 5);
}

/* The owner refuses: nothing is mapped, nothing was held, nothing is released. */
static void test_hold_refuses(void **state)
{
	struct uiommu_batch_options options;
	struct uiommu_op ops[3];
	struct rig rig;

	setup(&rig);
	options = options_of(&rig);
	ops[0] = op_map(rig.ioas[1], 0, 2, 0);
	assert_int_equal(uiommu_batch_submit(ops, 1, &options), 0);
	rig.refuse = -EPERM;
	ops[0] = op_unmap(rig.ioas[1], 0, 2);
	ops[1] = op_map(rig.ioas[1], 1, 4, 4);
	ops[2] = op_map(rig.ioas[1], 9, 1, 4);
	assert_int_equal(uiommu_batch_submit(ops, 3, &options), -EPERM);
	assert_int_equal(ops[2].status, -EPERM);
	assert_int_equal(rig.released, 1);
	assert_int_equal(areas_of(rig.ioas[1]), 0);
	assert_int_equal(frame_at(rig.domain[1], 2), -1);
	teardown(&rig);
}

/* ---- the model ---- */

/* What is mapped where, by a second and simpler mind. */
struct page {
	int frame; /* -1: nothing */
	int prot;
	unsigned area; /* pages of one area have one number */
};

struct model {
	struct page page[SPACES][PAGES];
	unsigned next_area;
	bool touched[SPACES]; /* something was taken away in this batch */
	int refs[FRAMES];
};

/* One page in the last space is reserved. */
#define RESERVED 5

static int model_map(struct model *m, unsigned s, uint64_t first, uint64_t n, int frame, int prot)
{
	if (!prot)
		return -EINVAL;
	for (uint64_t i = first; i < first + n; i++)
		if (m->page[s][i].frame >= 0)
			return -EEXIST;
	if (s == SPACES - 1 && first <= RESERVED && RESERVED < first + n)
		return -EINVAL;
	m->next_area++;
	for (uint64_t i = 0; i < n; i++) {
		m->page[s][first + i] = (struct page){frame + (int)i, prot, m->next_area};
		m->refs[frame + (int)i]++;
	}
	return 0;
}

static bool same_area(const struct model *m, unsigned s, uint64_t a, uint64_t b)
{
	return a < PAGES && b < PAGES && m->page[s][a].frame >= 0 && m->page[s][b].frame >= 0 &&
	       m->page[s][a].area == m->page[s][b].area;
}

static int model_unmap(struct model *m, unsigned s, uint64_t first, uint64_t n, uint64_t *bytes)
{
	*bytes = 0;
	if (same_area(m, s, first - 1, first) || same_area(m, s, first + n - 1, first + n))
		return -EINVAL;
	for (uint64_t i = first; i < first + n; i++) {
		if (m->page[s][i].frame < 0)
			continue;
		m->refs[m->page[s][i].frame]--;
		m->page[s][i].frame = -1;
		*bytes += PAGE;
		m->touched[s] = true;
	}
	return 0;
}

static int model_copy(struct model *m, unsigned s, uint64_t first, uint64_t n, unsigned from,
		      uint64_t at, int prot)
{
	for (uint64_t i = first; i < first + n; i++)
		if (m->page[s][i].frame >= 0)
			return -EEXIST;
	if (s == SPACES - 1 && first <= RESERVED && RESERVED < first + n)
		return -EINVAL;
	for (uint64_t i = at; i < at + n; i++) {
		if (i >= PAGES || m->page[from][i].frame < 0)
			return -ENOENT;
		if ((prot & UIOMMU_WRITE) && !(m->page[from][i].prot & UIOMMU_WRITE))
			return -EPERM;
	}
	for (uint64_t i = 0; i < n; i++) {
		if (!i || !same_area(m, from, at + i - 1, at + i))
			m->next_area++;
		m->page[s][first + i] =
			(struct page){m->page[from][at + i].frame, prot, m->next_area};
		m->refs[m->page[s][first + i].frame]++;
	}
	return 0;
}

struct plan {
	struct uiommu_op op; /* without its address spaces */
	unsigned space, source;
	int status;
	uint64_t bytes;
};

/* A random batch, and what the model says of it. */
static unsigned draw(struct rng *rng, struct model *m, struct plan *plan)
{
	unsigned count = 1 + (unsigned)rng_below(rng, OPS);

	for (unsigned i = 0; i < SPACES; i++)
		m->touched[i] = false;
	for (unsigned i = 0; i < count; i++) {
		unsigned s = (unsigned)rng_below(rng, SPACES),
			 from = (unsigned)rng_below(rng, SPACES);
		uint64_t first = rng_below(rng, PAGES), n = 1 + rng_below(rng, 6),
			 at = rng_below(rng, PAGES);
		int prot = rng_below(rng, 20) ? 1 + (int)rng_below(rng, 3) : 0;
		int frame = (int)rng_below(rng, FRAMES - 6);
		struct plan *p = &plan[i];
		uint64_t what = rng_below(rng, 8);

		if (first + n > PAGES)
			n = PAGES - first;
		if (what < 3 && rng_below(rng, 2)) /* wide enough to cut none */
			n = PAGES - first < 16 ? PAGES - first : 16;
		*p = (struct plan){
			.space = s, .source = from, .op = {.range = pages(first, n), .prot = prot}};
		if (what < 3) {
			p->op.kind = UIOMMU_OP_UNMAP;
			p->status = model_unmap(m, s, first, n, &p->bytes);
		} else if (what < 7) {
			p->op.kind = UIOMMU_OP_MAP;
			p->op.addr = (uint64_t)frame * PAGE;
			if (n > 6)
				abort();
			p->status = model_map(m, s, first, n, frame, prot);
		} else {
			p->op.kind = UIOMMU_OP_COPY;
			p->op.addr = at * PAGE;
			p->op.prot = prot ? prot : UIOMMU_READ;
			p->status = model_copy(m, s, first, n, from, at, p->op.prot);
		}
	}
	return count;
}

static void perform(struct rig *rig, const struct plan *plan, unsigned count, struct rng *cuts,
		    struct uiommu_batch *batch)
{
	uint64_t released = rig->released, flushed = flushes(rig);
	struct uiommu_op ops[OPS];

	for (unsigned i = 0; i < count; i++) {
		ops[i] = plan[i].op;
		ops[i].ioas = rig->ioas[plan[i].space];
		ops[i].source = rig->ioas[plan[i].source];
	}
	for (unsigned done = 0; done < count;) {
		struct uiommu_budget budget = {.ops = cuts ? 1 + rng_below(cuts, 3) : 0};

		done += (unsigned)uiommu_batch_run(batch, ops + done, count - done, &budget);
		/* Nothing is flushed or released at a cut. */
		assert_int_equal(rig->released, released);
		assert_int_equal(flushes(rig), flushed);
	}
	uiommu_batch_finish(batch);
	for (unsigned i = 0; i < count; i++) {
		if (ops[i].status != plan[i].status ||
		    (!ops[i].status && ops[i].bytes != plan[i].bytes))
			fail_msg("operation %u of %u, kind %d: status %d for %d, bytes %llu for "
				 "%llu",
				 i, count, ops[i].kind, ops[i].status, plan[i].status,
				 (unsigned long long)ops[i].bytes,
				 (unsigned long long)plan[i].bytes);
	}
}

/* Areas, tables and references against the model; and the number of flushes since before. */
static void compare(struct rig *rig, const struct model *m, uint64_t before)
{
	uint64_t expect = before;

	for (unsigned s = 0; s < SPACES; s++) {
		uint64_t at = 0;
		struct uiommu_area area = {.range = {1, 0}};

		for (uint64_t i = 0; i < PAGES; i++) {
			const struct page *p = &m->page[s][i];

			if (i * PAGE >= at) {
				if (uiommu_ioas_find(rig->ioas[s], i * PAGE, &area))
					area.range = (struct uiommu_range){UINT64_MAX, UINT64_MAX};
				at = area.range.last == UINT64_MAX ? UINT64_MAX
								   : area.range.last + 1;
			}
			assert_int_equal(area.range.first <= i * PAGE, p->frame >= 0);
			if (p->frame >= 0) {
				assert_int_equal(area.addr + (i * PAGE - area.range.first),
						 (uint64_t)p->frame * PAGE);
				assert_int_equal(area.prot, p->prot);
				assert_int_equal(area.range.first == i * PAGE,
						 !i || !same_area(m, s, i - 1, i));
			}
			if (s)
				assert_int_equal(frame_at(rig->domain[s], i), p->frame);
			if (s == SPACES - 1)
				assert_int_equal(frame_at(rig->second, i), p->frame);
		}
		if (s)
			expect += m->touched[s] * (s == SPACES - 1 ? 2 : 1);
	}
	assert_int_equal(flushes(rig), expect);
	assert_memory_equal(rig->refs, m->refs, sizeof(m->refs));
}

static void test_preemption(void **state)
{
	struct rng rng = rng_seeded("preemption");
	uint64_t rounds = test_steps(100000), before[2];
	struct uiommu_batch *batch[2];
	struct rig rig[2]; /* whole, cut */
	struct plan plan[OPS];
	struct model *m = calloc(1, sizeof(*m));

	for (unsigned s = 0; s < SPACES; s++)
		for (unsigned i = 0; i < PAGES; i++)
			m->page[s][i].frame = -1;
	for (unsigned r = 0; r < 2; r++) {
		struct uiommu_batch_options options = options_of(&rig[r]);

		setup(&rig[r]);
		assert_int_equal(uiommu_batch_open(&options, &batch[r]), 0);
		assert_int_equal(uiommu_ioas_reserve(rig[r].ioas[SPACES - 1], pages(RESERVED, 1),
						     UIOMMU_RESV_RESERVED, &rig[r], "test"),
				 0);
	}
	for (uint64_t round = 0; round < rounds; round++) {
		unsigned count = draw(&rng, m, plan);

		for (unsigned r = 0; r < 2; r++) {
			before[r] = flushes(&rig[r]);
			perform(&rig[r], plan, count, r ? &rng : NULL, batch[r]);
			/* All of it now and then: it takes longer than the batch. */
			if (round % 8 == 0)
				compare(&rig[r], m, before[r]);
		}
		assert_memory_equal(rig[0].refs, m->refs, sizeof(m->refs));
		assert_memory_equal(rig[1].refs, m->refs, sizeof(m->refs));
		assert_int_equal(rig[0].released, rig[1].released);
		assert_int_equal(flushes(&rig[0]), flushes(&rig[1]));
		assert_int_equal(flushes(&rig[0]) - before[0], m->touched[1] + 2 * m->touched[2]);
	}
	for (unsigned r = 0; r < 2; r++) {
		uiommu_batch_close(batch[r]);
		teardown(&rig[r]);
	}
	free(m);
}

/* ---- threads ---- */

/* What two threads with a batch each do to one address space, cuts and all: whoever is refused is
 * told EBUSY or EEXIST, and in the end every reference is given back. */
static struct {
	struct uiommu_ioas *ioas;
	_Atomic int refs[FRAMES];
	_Atomic uint64_t busy;
} shared;

static int shared_hold(void *ctx, const struct uiommu_op *op, const struct uiommu_area *area)
{
	shared.refs[area->addr / PAGE]++;
	return 0;
}

static void shared_release(void *ctx, const struct uiommu_area *area)
{
	shared.refs[area->addr / PAGE]--;
}

static void *batches(void *seed)
{
	const struct uiommu_batch_options options = {
		.size = sizeof(options), .hold = shared_hold, .release = shared_release};
	struct rng rng = {.state = (uintptr_t)seed};
	struct uiommu_batch *batch;

	if (uiommu_batch_open(&options, &batch))
		abort();
	for (unsigned round = 0; round < 3000; round++) {
		struct uiommu_op ops[OPS];
		const struct uiommu_budget two = {.ops = 2};

		for (unsigned i = 0; i < OPS; i++) {
			uint64_t page = rng_below(&rng, 16);

			ops[i] = rng_below(&rng, 2)
					 ? op_map(shared.ioas, page, 1, rng_below(&rng, FRAMES))
					 : op_unmap(shared.ioas, page,
						    1 + rng_below(&rng, 16 - page));
		}
		for (size_t done = 0; done < OPS;)
			done += uiommu_batch_run(batch, ops + done, OPS - done, &two);
		uiommu_batch_finish(batch);
		for (unsigned i = 0; i < OPS; i++) {
			if (ops[i].status && ops[i].status != -EBUSY && ops[i].status != -EEXIST)
				abort();
			shared.busy += ops[i].status == -EBUSY;
		}
	}
	uiommu_batch_close(batch);
	return NULL;
}

static void test_two_batches(void **state)
{
	struct rng rng = rng_seeded("two batches");
	int mapped[FRAMES] = {0};
	struct uiommu_area area;
	pthread_t thread[2];
	struct rig rig;

	setup(&rig);
	shared.ioas = rig.ioas[2];
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, batches, (void *)(uintptr_t)rng_next(&rng));
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	for (uint64_t at = 0; !uiommu_ioas_find(shared.ioas, at, &area); at = area.range.last + 1)
		mapped[area.addr / PAGE]++;
	for (unsigned i = 0; i < FRAMES; i++)
		assert_int_equal(shared.refs[i], mapped[i]);
	for (uint64_t page = 0; page < 16; page++) {
		bool there = !uiommu_ioas_find(shared.ioas, page * PAGE, &area) &&
			     area.range.first == page * PAGE;

		assert_int_equal(frame_at(rig.second, page),
				 there ? (int64_t)(area.addr / PAGE) : -1);
	}
	print_message("two batches: %llu operations found something busy\n",
		      (unsigned long long)shared.busy);
	assert_int_equal(uiommu_ioas_unmap(shared.ioas, pages(0, 16), NULL, NULL, NULL), 0);
	teardown(&rig);
}

/* ---- a range that leaves twice ---- */

struct device {
	struct uiommu_port *port;
	unsigned released, reached; /* areas; of them, those that the device still reached */
};

static void release_reads(void *ctx, const struct uiommu_area *area)
{
	struct device *device = ctx;
	char byte;

	device->released++;
	device->reached += uiommu_port_read(device->port, area->range.first, &byte, 1) == 0;
}

/* Another caller's flush comes between the two times that a page leaves: it has served the first
 * time only, and the device has the second mapping cached. */
static void test_leaves_twice(void **state)
{
	static char memory[3][PAGE] __attribute__((aligned(4096)));
	struct device device = {0};
	const struct uiommu_batch_options options = {
		.size = sizeof(options), .release = release_reads, .ctx = &device};
	struct uiommu_batch *batch;
	struct uiommu_op ops[3];
	struct rig rig;
	char byte;

	setup(&rig);
	assert_int_equal(uiommu_domain_attach(rig.domain[1], 8, NULL, 0, "device"), 0);
	assert_int_equal(uiommu_port_create(rig.unit, 8, &device.port), 0);
	uiommu_port_set_master(device.port, true);
	assert_int_equal(uiommu_ioas_map(rig.ioas[1], pages(1, 1), (uintptr_t)memory[0], RW, NULL),
			 0);
	assert_int_equal(uiommu_ioas_map(rig.ioas[1], pages(9, 1), (uintptr_t)memory[2], RW, NULL),
			 0);
	ops[0] = ops[2] = op_unmap(rig.ioas[1], 1, 1);
	ops[1] = op_map(rig.ioas[1], 1, 1, 0);
	ops[1].addr = (uintptr_t)memory[1];
	assert_int_equal(uiommu_batch_open(&options, &batch), 0);
	assert_int_equal(uiommu_batch_run(batch, ops, 2, NULL), 2);
	assert_int_equal(uiommu_ioas_unmap(rig.ioas[1], pages(9, 1), NULL, NULL, NULL), 0);
	assert_int_equal(uiommu_port_read(device.port, PAGE, &byte, 1), 0);
	assert_int_equal(uiommu_batch_run(batch, &ops[2], 1, NULL), 1);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(ops[i].status, 0);
	uiommu_batch_finish(batch);
	assert_int_equal(device.released, 2);
	assert_int_equal(device.reached, 0);
	assert_int_equal(uiommu_port_read(device.port, PAGE, &byte, 1), -EFAULT);
	uiommu_batch_close(batch);
	uiommu_port_destroy(device.port);
	uiommu_domain_detach(rig.domain[1], 8);
	teardown(&rig);
}

/* A map that its holder refused is in nobody's way, though the batch stays open. */
static void test_refused_is_free(void **state)
{
	struct uiommu_batch_options options;
	struct uiommu_ioas_stats before, after;
	struct uiommu_batch *batch;
	struct uiommu_op op;
	struct rig rig;

	setup(&rig);
	options = options_of(&rig);
	assert_int_equal(uiommu_batch_open(&options, &batch), 0);
	uiommu_ioas_stats(rig.ioas[1], &before);
	rig.refuse = -EPERM;
	op = op_map(rig.ioas[1], 1, 4, 4);
	uiommu_batch_run(batch, &op, 1, NULL);
	assert_int_equal(op.status, -EPERM);
	uiommu_ioas_stats(rig.ioas[1], &after);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(uiommu_ioas_map(rig.ioas[1], pages(2, 1), 8 * PAGE, RW, NULL), 0);
	uiommu_batch_close(batch);
	assert_int_equal(rig.released, 0);
	assert_int_equal(frame_at(rig.domain[1], 2), 8);
	teardown(&rig);
}

/* Clearing cuts areas first. Refused for what a batch is taking away, it has cut none. */
static void test_clear_refused(void **state)
{
	struct uiommu_batch_options options;
	struct uiommu_ioas_stats before, after;
	struct uiommu_batch *batch;
	struct uiommu_area area;
	struct uiommu_op op;
	uint64_t unmapped;
	struct rig rig;

	setup(&rig);
	options = options_of(&rig);
	for (uint64_t page = 0; page < 9; page += 3) /* 0-1, 3-4, 6-7 */
		assert_int_equal(
			uiommu_ioas_map(rig.ioas[1], pages(page, 2), page * PAGE, RW, NULL), 0);
	assert_int_equal(uiommu_batch_open(&options, &batch), 0);
	op = op_unmap(rig.ioas[1], 3, 2);
	uiommu_batch_run(batch, &op, 1, NULL);
	assert_int_equal(op.status, 0);
	uiommu_ioas_stats(rig.ioas[1], &before);
	assert_int_equal(uiommu_ioas_clear(rig.ioas[1], pages(1, 6), &unmapped, NULL, NULL),
			 -EBUSY);
	uiommu_ioas_stats(rig.ioas[1], &after);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(uiommu_ioas_find(rig.ioas[1], 0, &area), 0);
	assert_int_equal(area.range.last, 2 * PAGE - 1);
	assert_int_equal(uiommu_ioas_find(rig.ioas[1], 6 * PAGE, &area), 0);
	assert_int_equal(area.range.first, 6 * PAGE);
	assert_int_equal(area.range.last, 8 * PAGE - 1);
	for (uint64_t page = 0; page < 2; page++)
		assert_int_equal(frame_at(rig.domain[1], page), (int64_t)page);
	op = op_unmap(rig.ioas[1], 0, 8);
	uiommu_batch_run(batch, &op, 1, NULL);
	assert_int_equal(op.status, 0);
	assert_int_equal(op.bytes, 4 * PAGE);
	uiommu_batch_close(batch);
	teardown(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_flush),
		cmocka_unit_test(test_statuses),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_in_transition),
		cmocka_unit_test(test_shared_flush),
		cmocka_unit_test(test_budgets),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_hold_refuses),
		cmocka_unit_test(test_preemption),
		cmocka_unit_test(test_two_batches),
		cmocka_unit_test(test_leaves_twice),
		cmocka_unit_test(test_clear_refused),
		cmocka_unit_test(test_refused_is_free),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
