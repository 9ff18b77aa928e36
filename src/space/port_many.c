/* SPDX-License-Identifier: MIT */
/*
 * Translations in numbers. Owns nothing: each is made as any other. What is different is that the
 * tables' entries for all of a group are asked for before the first is translated, so that the
 * waits for memory run side by side. Inside a section throughout, so that the tables stay.
 */
#include <errno.h>

#include "space/space.h"

/* As many as a processor can have under way, and few enough that none is evicted again. */
#define GROUP 32

/* Ask for what the IOTLB will not answer. */
static void prefetch(const struct uiommu_port *port, const struct uiommu_translation *t,
		     size_t count)
{
	uint64_t unknown[GROUP];
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		const struct uiommu_port_entry *entry =
			&port->fast.entries[t[i].iova >> 12 & port->fast.mask];

		unknown[n] = t[i].iova;
		n += t[i].iova - entry->first > entry->span;
	}
	table_prefetch_walks(&port->domain->table, unknown, n);
}

UIOMMU_API size_t uiommu_port_translate_many(struct uiommu_port *port, int access,
					     struct uiommu_translation *translations, size_t count)
{
	for (size_t done = 0; done < count;) {
		uint64_t changes = port_changes(port);
		size_t group = count - done < GROUP ? count - done : GROUP;

		/* Behind a stage 1 there is more to be read than one table's entry. */
		if ((changes == port->fast.checked || !port_look(port, changes)) && !port->stage1)
			prefetch(port, translations + done, group);
		for (size_t end = done + group; done < end; done++) {
			struct uiommu_translation *t = &translations[done];
			int64_t ret = uiommu_port_translate_one_now(port, t->iova, t->len, access,
								    &t->addr);

			if (ret < 0)
				return done;
			t->covered = (uint64_t)ret;
		}
	}
	return count;
}
