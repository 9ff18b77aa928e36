/* SPDX-License-Identifier: MIT */
/*
 * peers - data structures from packages, doing the bare part of the same work: a mapping put in and
 * taken out, an address looked up. They check nothing, hold no areas or permissions and flush
 * nothing. Those whose package was not there at build time are left out.
 */
#include "bench.h"

#include <stdlib.h>

#define PAGE UINT64_C(4096)

enum { OPS = 4096 };

struct mapping {
	uint64_t first, last, addr;
};

#ifdef HAVE_GLIB
#include <glib.h>

/* Ordered by range, overlap is equality: as QEMU's iova-tree has it. */
static int by_range(const void *a, const void *b, void *unused)
{
	const struct mapping *x = a, *y = b;

	return x->first > y->last ? 1 : x->last < y->first ? -1 : 0;
}

static void glib_put(GTree *tree, uint64_t iova, uint64_t addr)
{
	struct mapping *m = g_new(struct mapping, 1);

	*m = (struct mapping){iova, iova + PAGE - 1, addr};
	g_tree_insert(tree, m, m);
}

static double glib_pairs(const struct work *w)
{
	double start = now_ns();

	for (uint64_t i = 0; i < OPS; i++) {
		uint64_t at = page_place(w->live + i);
		struct mapping key = {at, at, 0};

		glib_put(w->state, at, i * PAGE);
		g_tree_remove(w->state, &key);
	}
	return (now_ns() - start) / OPS;
}

static double glib_find(const struct work *w)
{
	const uint64_t *places = page_lookups(w->live, settings.seed);
	double start = now_ns();

	for (int i = 0; i < OPS; i++) {
		struct mapping key;

		key.first = key.last = places[i];
		must(!g_tree_lookup(w->state, &key), "GTree");
	}
	return (now_ns() - start) / OPS;
}

static void glib_add(uint64_t live, const char *name)
{
	GTree *tree = g_tree_new_full(by_range, NULL, g_free, NULL);

	for (uint64_t i = 0; i < live; i++)
		glib_put(tree, page_place(i), i * PAGE);
	work_add(glib_pairs, tree, 0, live, "peer: GTree, random hole, %s live", name);
	work_add(glib_find, tree, 0, live, "peer: GTree, find, %s live", name);
}
#endif

#ifdef HAVE_JUDY
#include <Judy.h>

static void judy_put(void **array, uint64_t iova, uint64_t addr)
{
	Word_t *value = (Word_t *)JudyLIns(array, iova >> 12, NULL);

	must(!value, "Judy");
	*value = addr | 3;
}

static double judy_pairs(const struct work *w)
{
	double start = now_ns();

	for (uint64_t i = 0; i < OPS; i++) {
		uint64_t at = page_place(w->live + i);

		judy_put(w->state, at, i * PAGE);
		must(JudyLDel(w->state, at >> 12, NULL) != 1, "Judy");
	}
	return (now_ns() - start) / OPS;
}

static double judy_find(const struct work *w)
{
	const uint64_t *places = page_lookups(w->live, settings.seed);
	double start = now_ns();

	for (int i = 0; i < OPS; i++) {
		must(!JudyLGet(*(void **)w->state, places[i] >> 12, NULL), "Judy");
	}
	return (now_ns() - start) / OPS;
}

static void judy_add(uint64_t live, const char *name)
{
	void **array = calloc(1, sizeof(*array));

	must(!array, "memory");
	for (uint64_t i = 0; i < live; i++)
		judy_put(array, page_place(i), i * PAGE);
	work_add(judy_pairs, array, 0, live, "peer: Judy, random hole, %s live", name);
	work_add(judy_find, array, 0, live, "peer: Judy, find, %s live", name);
}
#endif

#ifdef HAVE_URCU
#define _LGPL_SOURCE
#include <urcu.h>
#include <urcu/rculfhash.h>

struct hashed {
	struct cds_lfht_node node;
	struct rcu_head head;
	uint64_t page, addr;
};

static int hash_match(struct cds_lfht_node *node, const void *key)
{
	return caa_container_of(node, struct hashed, node)->page == *(const uint64_t *)key;
}

static unsigned long hash_of(uint64_t page)
{
	return (unsigned long)(page * UINT64_C(0x9e3779b97f4a7c15) >> 20);
}

static struct hashed *hash_put(struct cds_lfht *table, uint64_t page, uint64_t addr)
{
	struct hashed *h = malloc(sizeof(*h));

	must(!h, "memory");
	h->page = page;
	h->addr = addr;
	rcu_read_lock();
	cds_lfht_add(table, hash_of(page), &h->node);
	rcu_read_unlock();
	return h;
}

/* Freed after one grace period for all, as a batch has one flush. */
static double hash_pairs(const struct work *w)
{
	static struct hashed *gone[OPS];
	double start = now_ns();

	for (uint64_t i = 0; i < OPS; i++) {
		gone[i] = hash_put(w->state, page_place(w->live + i) >> 12, i * PAGE);
		rcu_read_lock();
		must(cds_lfht_del(w->state, &gone[i]->node), "liburcu");
		rcu_read_unlock();
	}
	synchronize_rcu();
	for (uint64_t i = 0; i < OPS; i++)
		free(gone[i]);
	return (now_ns() - start) / OPS;
}

static double hash_find(const struct work *w)
{
	const uint64_t *places = page_lookups(w->live, settings.seed);
	double start = now_ns();

	for (int i = 0; i < OPS; i++) {
		struct cds_lfht_iter iter;
		uint64_t page;

		page = places[i] >> 12;
		rcu_read_lock();
		cds_lfht_lookup(w->state, hash_of(page), hash_match, &page, &iter);
		must(!cds_lfht_iter_get_node(&iter), "liburcu");
		rcu_read_unlock();
	}
	return (now_ns() - start) / OPS;
}

static void hash_add(uint64_t live, const char *name)
{
	struct cds_lfht *table = cds_lfht_new(1 << 20, 1, 0, 0, NULL);

	must(!table, "liburcu");
	for (uint64_t i = 0; i < live; i++)
		hash_put(table, page_place(i) >> 12, i * PAGE);
	work_add(hash_pairs, table, 0, live, "peer: liburcu hash, random hole, %s live", name);
	work_add(hash_find, table, 0, live, "peer: liburcu hash, find, %s live", name);
}
#endif

void peers_add(void)
{
	static const struct {
		uint64_t live;
		const char *name;
	} sizes[] = {{10000, "10k"}, {100000, "100k"}, {1000000, "1M"}};

	if (!work_wanted("peer"))
		return;
#ifdef HAVE_URCU
	rcu_register_thread();
#endif
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
#ifdef HAVE_GLIB
		glib_add(sizes[i].live, sizes[i].name);
#endif
#ifdef HAVE_JUDY
		judy_add(sizes[i].live, sizes[i].name);
#endif
#ifdef HAVE_URCU
		hash_add(sizes[i].live, sizes[i].name);
#endif
	}
}
