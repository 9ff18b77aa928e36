/* SPDX-License-Identifier: MIT */
/*
 * Domains that are a guest's own tables. Owns the way from a walk of them to the memory that they
 * are in: every address goes through the domain behind, for the kind of access that it is, so
 * setting a flag in a table makes that table's page dirty.
 *
 * A walk runs inside the port's section, and the port is attached to the domain behind; so what
 * that unmaps is waited for, as for any access. Invariants: what the tables say decides about the
 * guest's devices and nothing else; no word of them is believed twice.
 *
 * Such a domain has a space of its own for one reason: the lock under which it is flushed.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>

#include "space/space.h"
#include "table/guest.h"
#include "util/alloc.h"
#include "util/options.h"
#include "util/refuse.h"

/* ---- walking ---- */

/* The memory behind the second domain. */
struct behind {
	struct guest_memory memory;
	struct uiommu_domain *second;
	bool refused; /* by the second domain */
};

/* Where the word at an address of the guest's is in the unit's memory. */
static enum uiommu_fault_reason find_word(struct behind *behind, uint64_t addr, int access,
					  uint64_t *word)
{
	struct uiommu_domain *second = behind->second;
	struct table_leaf leaf;

	behind->refused = true;
	if (!table_covers(&second->table, addr) || domain_walk(second, addr, access, &leaf) ||
	    !(leaf.prot & access) || (leaf.prot & UIOMMU_MMIO))
		return UIOMMU_FAULT_TABLE_FETCH;
	behind->refused = false;
	*word = leaf.addr + (addr - leaf.range.first);
	return UIOMMU_FAULT_NONE;
}

static enum uiommu_fault_reason read_words(struct guest_memory *memory, uint64_t addr,
					   uint64_t *words, size_t count)
{
	struct behind *behind = (struct behind *)memory;
	const struct uiommu_memory *real = &behind->second->unit->memory;

	for (size_t i = 0; i < count; i++) {
		enum uiommu_fault_reason reason;
		uint64_t at;

		reason = find_word(behind, addr + i * sizeof(*words), UIOMMU_READ, &at);
		if (reason)
			return reason;
		if (real->ops->read(real->ctx, at, &words[i], sizeof(*words)))
			return UIOMMU_FAULT_TABLE_FETCH;
		words[i] = le64toh(words[i]);
	}
	return UIOMMU_FAULT_NONE;
}

static enum uiommu_fault_reason update_word(struct guest_memory *memory, uint64_t addr,
					    uint64_t *expected, uint64_t desired)
{
	struct behind *behind = (struct behind *)memory;
	const struct uiommu_memory *real = &behind->second->unit->memory;
	enum uiommu_fault_reason reason;
	uint64_t at, was;

	if (real->ops->size <= offsetof(struct uiommu_memory_ops, compare_exchange) ||
	    !real->ops->compare_exchange)
		return UIOMMU_FAULT_NONE;
	reason = find_word(behind, addr, UIOMMU_WRITE, &at);
	if (reason)
		return reason;
	was = htole64(*expected);
	if (real->ops->compare_exchange(real->ctx, at, &was, htole64(desired)))
		return UIOMMU_FAULT_TABLE_FETCH;
	*expected = le64toh(was);
	return UIOMMU_FAULT_NONE;
}

enum uiommu_fault_reason guest_domain_walk(const struct uiommu_domain *domain,
					   struct uiommu_domain *second, uint64_t iova, int access,
					   struct table_leaf *leaf, bool *stopped)
{
	struct behind behind = {
		.memory = {.read = read_words,
			   .update = update_word,
			   .last = second->table.aperture.last},
		.second = second,
	};
	enum uiommu_fault_reason reason =
		guest_walk(domain->guest, &behind.memory, iova, access, leaf);

	*stopped = !behind.refused;
	return reason;
}

/* ---- life ---- */

static int refuse_guest(int error)
{
	return uiommu_refuse(error == -ENOMEM ? UIOMMU_RULE_NO_MEMORY : UIOMMU_RULE_ARGUMENT, error,
			     "a guest's tables", UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
}

static bool walk_nothing(const struct table *table, uint64_t iova, struct table_leaf *leaf)
{
	return false;
}

/* What a domain has that has no table. */
static const struct table_ops no_table = {.name = "guest", .walk = walk_nothing};

static uint64_t next_uid(struct uiommu_unit *unit)
{
	uint64_t uid;

	pthread_mutex_lock(&unit->lock);
	uid = ++unit->next_uid;
	pthread_mutex_unlock(&unit->lock);
	return uid;
}

static void free_domain(struct uiommu_domain *domain)
{
	uiommu_ioas_destroy(domain->ioas);
	uiommu_free(domain->guest, sizeof(*domain->guest));
	uiommu_free(domain, sizeof(*domain));
}

static int make_domain(struct uiommu_domain *parent, const struct guest_table *table,
		       const char *name, struct uiommu_domain **out)
{
	struct uiommu_domain *domain = uiommu_alloc(sizeof(*domain));
	int ret;

	if (!domain)
		return -ENOMEM;
	domain->guest = uiommu_alloc(sizeof(*domain->guest));
	ret = domain->guest ? uiommu_ioas_create(&domain->ioas) : -ENOMEM;
	if (ret) {
		free_domain(domain);
		return ret;
	}
	*domain->guest = *table;
	domain->unit = parent->unit;
	domain->uid = next_uid(parent->unit);
	domain->table.ops = &no_table;
	domain->table.aperture = UIOMMU_RANGE_ALL;
	domain->pending = GATHER_INIT;
	domain->parent_uid = parent->uid;
	domain->parent_last = parent->table.aperture.last;
	snprintf(domain->name, sizeof(domain->name), "%s", name);
	*out = domain;
	return 0;
}

#define GUEST_OPTIONS                                 \
	(offsetof(struct uiommu_guest_options, ste) + \
	 sizeof(((struct uiommu_guest_options *)0)->ste))

UIOMMU_API int uiommu_domain_create_guest(struct uiommu_domain *parent,
					  const struct uiommu_guest_options *options,
					  struct uiommu_domain **out)
{
	struct uiommu_guest_options known = {.size = sizeof(known)};
	struct guest_table table;
	int ret = options ? options_take(&known, sizeof(known), GUEST_OPTIONS, options) : -EINVAL;

	if (!ret && (!known.format || parent->parent_uid))
		ret = -EINVAL;
	if (!ret)
		ret = guest_table_init(&table, &known);
	if (!ret)
		ret = make_domain(parent, &table, known.name ? known.name : known.format, out);
	return ret ? refuse_guest(ret) : 0;
}

void guest_domain_destroy(struct uiommu_domain *domain)
{
	free_domain(domain);
}

UIOMMU_API int uiommu_domain_invalidate(struct uiommu_domain *domain, struct uiommu_range range)
{
	if (!domain->guest)
		return uiommu_refuse(UIOMMU_RULE_UNSUPPORTED, -EOPNOTSUPP, domain->name, range,
				     UIOMMU_RANGE_NONE);
	if (!range_valid(range))
		return uiommu_refuse(UIOMMU_RULE_EMPTY, -EINVAL, domain->name, range,
				     UIOMMU_RANGE_NONE);
	pthread_mutex_lock(&domain->ioas->lock);
	gather_add(&domain->pending, range);
	domain_flush(domain);
	pthread_mutex_unlock(&domain->ioas->lock);
	return 0;
}
