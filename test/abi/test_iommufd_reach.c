/* SPDX-License-Identifier: MIT */
/*
 * Out of reach: once a device has been moved or taken away, or memory has been unmapped, the pages
 * are the program's again. It writes to them and finds that no device does, though devices do DMA
 * all the time; under ThreadSanitizer an access that isn't ordered before the return of the request
 * is reported besides, since the devices' copies are plain memory accesses.
 */
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "iommufd_rig.h"

#define LANE 512 /* bytes of one DMA */

/* So many are enough for every operation to come. */
#define STEPS 150

static const char *const functions[] = {"edu@01:00.0,group=0,dma_mask=0xffffffffffffffff",
					"edu@02:00.0,group=1,dma_mask=0xffffffffffffffff",
					"edu@03:00.0,group=2,dma_mask=0xffffffffffffffff", NULL};

static uint64_t steps(void)
{
	return test_steps(STEPS);
}

enum { MOVERS = 3 };
static const uint64_t target = 0x100000; /* what the device writes to, wherever it is */

/* A device with two address spaces of its own, which show different pages at the same IOVA. */
struct mover {
	struct rig *rig;
	struct rng rng;
	pthread_t thread, kicker;
	int fd, node;
	uint32_t device, spaces[2], own; /* own: a HWPT of the first, or 0 */
	uint8_t *pages[2];
	int at; /* attached to which; -1: none */
	_Atomic bool stop, pause, paused;
	_Atomic bool disturbed; /* a page was changed that nobody should reach */
	uint64_t hits;
	unsigned rounds[6];
};

/* Keep the device writing; a pause is in the middle of what it does. */
static void *kick(void *ctx)
{
	struct mover *m = ctx;

	while (!m->stop) {
		m->paused = m->pause;
		if (m->paused)
			sched_yield();
		else
			edu_start(m->rig, m->node, target, LANE, true);
	}
	return NULL;
}

/* The device writes zeros. */
static void check_quiet(struct mover *m, unsigned which, uint8_t mark)
{
	memset(m->pages[which], mark, PAGE);
	for (unsigned n = 0; n < 4; n++) {
		sched_yield();
		for (size_t i = 0; i < PAGE; i++)
			if (m->pages[which][i] != mark)
				m->disturbed = true;
	}
}

/* It gets there: else nothing is shown. */
static void check_reached(struct mover *m, unsigned which)
{
	volatile uint8_t *page = m->pages[which];

	/* Only looked at, while the device writes: where that counts as a race, not even that. */
#ifndef __SANITIZE_THREAD__
	for (unsigned n = 0; n < 100000 && page[0]; n++)
		sched_yield();
	m->hits += !page[0];
#else
	(void)page;
	m->hits++;
#endif
}

static bool make_space(struct mover *m, unsigned which)
{
	m->spaces[which] = ioas_alloc(m->rig, m->fd);
	return !ioas_map_at(m->rig, m->fd, m->spaces[which], m->pages[which], PAGE, target);
}

static bool to_space(struct mover *m, unsigned which)
{
	long ret = attach_to(m->rig, m->node, which == 0 && m->own ? m->own : m->spaces[which]);

	if (!ret && m->at == (int)!which)
		check_quiet(m, !which, 0x11);
	m->at = (int)which;
	return !ret;
}

static bool away(struct mover *m)
{
	long ret = detach_device(m->rig, m->node);

	m->at = -1;
	check_quiet(m, 0, 0x22);
	check_quiet(m, 1, 0x33);
	return !ret;
}

/* Off and on again, where the device is. */
static bool remap(struct mover *m)
{
	unsigned which = m->at == 1;
	uint64_t length = PAGE;

	if (ioas_unmap(m->rig, m->fd, m->spaces[which], target, &length) || length != PAGE)
		return false;
	check_quiet(m, which, 0x44);
	return !ioas_map_at(m->rig, m->fd, m->spaces[which], m->pages[which], PAGE, target);
}

/* The space where the device is not: it goes with what is mapped. */
static bool renew(struct mover *m)
{
	if (m->at == 1 || m->own) /* one that a page table rests on stays */
		return destroy_id(m->rig, m->fd, m->spaces[0]) == (m->own ? -EBUSY : 0) &&
		       (m->own || make_space(m, 0));
	return destroy_id(m->rig, m->fd, m->spaces[1]) == 0 && make_space(m, 1);
}

/* A page table of its own for the device, or none any more. */
static bool table(struct mover *m)
{
	uint32_t id = m->own;

	if (m->own) {
		m->own = 0;
		/* In use: moved to the automatic one. */
		return (m->at || to_space(m, 0)) && !destroy_id(m->rig, m->fd, id);
	}
	if (hwpt_alloc(m->rig, m->fd, m->device, m->spaces[0], 0, &m->own))
		return false;
	return m->at || to_space(m, 0);
}

/* Close the node in the middle of a DMA, and begin anew. */
static bool reopen(struct mover *m)
{
	m->pause = true;
	while (!m->paused)
		sched_yield();
	rig_close(m->rig, m->node);
	check_quiet(m, 0, 0x55);
	check_quiet(m, 1, 0x66);
	m->at = -1;
	m->node = rig_open_node(m->rig, (unsigned)(m->pages[0] - m->rig->memory) / 2 / PAGE);
	if (m->node < 0 || bind_device(m->rig, m->node, m->fd, &m->device))
		return false;
	rig_config_set(m->rig, m->node, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	m->pause = false;
	while (m->paused)
		sched_yield();
	return true;
}

static void *move(void *ctx)
{
	static bool (*const ops[])(struct mover *) = {away, remap, renew, table, reopen};
	struct mover *m = ctx;

	for (uint64_t n = steps(); n-- && !m->disturbed;) {
		unsigned op = (unsigned)rng_below(&m->rng, 8);
		bool fine = op < 5 ? ops[op](m) : to_space(m, op % 2);

		if (!fine)
			break;
		m->rounds[op < 5 ? op : 5]++;
		if (m->at >= 0 && rng_below(&m->rng, 2))
			check_reached(m, (unsigned)m->at);
	}
	m->stop = true;
	pthread_join(m->kicker, NULL);
	return NULL;
}

static void run_reach(const char *platform)
{
	const struct rig_options options = {.platform = platform, .functions = functions};
	struct rng rng = rng_seeded(platform);
	struct mover movers[MOVERS] = {0};
	struct rig rig;
	int fd;

	assert_true(rig_up(&rig, &options));
	fd = rig_open_iommufd(&rig);
	for (unsigned i = 0; i < MOVERS; i++) {
		struct mover *m = &movers[i];

		m->rig = &rig;
		m->rng.state = rng_next(&rng);
		m->fd = fd;
		m->pages[0] = rig.memory + 2 * i * PAGE;
		m->pages[1] = m->pages[0] + PAGE;
		m->at = -1;
		m->node = rig_open_node(&rig, i);
		assert_int_equal(bind_device(&rig, m->node, fd, &m->device), 0);
		rig_config_set(&rig, m->node, PCI_COMMAND, 2,
			       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
		assert_true(make_space(m, 0) && make_space(m, 1));
	}
	for (unsigned i = 0; i < MOVERS; i++) {
		assert_int_equal(pthread_create(&movers[i].kicker, NULL, kick, &movers[i]), 0);
		assert_int_equal(pthread_create(&movers[i].thread, NULL, move, &movers[i]), 0);
	}
	for (unsigned i = 0; i < MOVERS; i++) {
		struct mover *m = &movers[i];

		pthread_join(m->thread, NULL);
		assert_false(m->disturbed);
		for (unsigned op = 0; op < 6 && steps() >= STEPS; op++)
			assert_true(m->rounds[op] > 0);
		assert_true(m->hits > 0 || steps() < STEPS);
		rig_close(&rig, m->node);
	}
	rig_close(&rig, fd);
	rig_down(&rig);
}

static void test_out_of_reach(void **state)
{
	run_reach("x86-vtd");
	run_reach("x86-amd");
	run_reach("arm-smmuv3");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_out_of_reach)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
