/* SPDX-License-Identifier: MIT */
/*
 * Memory registered for mapping (VFIO_IOMMU_SPAPR_REGISTER_MEMORY): owns the program's list of it,
 * which all its containers share, as in Linux (arch/powerpc/mm/book3s64/iommu_api.c).
 *
 * Invariants: pieces are disjoint; a piece stays while a container has it registered or something
 * of it is mapped. Only its last user's leaving frees it and gives back what was charged for it.
 * Lock: uiommu_vfio.memory.lock, a leaf: it is taken under an address space's lock, when areas go.
 */
#include <errno.h>

#include "abi/vfio_spapr.h"
#include "util/alloc.h"

struct vfio_memory {
	struct vfio_memory *next;
	struct uiommu_range range;
	unsigned used;	 /* containers that have it registered */
	uint64_t mapped; /* bytes, in all windows of all containers */
};

void vfio_memory_init(struct vfio_memory_list *list)
{
	pthread_mutex_init(&list->lock, NULL);
	list->first = NULL;
}

void vfio_memory_fini(struct vfio_memory_list *list)
{
	pthread_mutex_destroy(&list->lock);
}

/* How many of those bytes lie in the piece. */
static uint64_t shared_bytes(struct uiommu_range piece, uint64_t vaddr, uint64_t bytes)
{
	uint64_t last = vaddr + (bytes - 1);
	uint64_t first = vaddr > piece.first ? vaddr : piece.first;

	if (last > piece.last)
		last = piece.last;
	return first <= last ? last - first + 1 : 0;
}

static uint64_t pages_of(const struct vfio_memory *memory)
{
	return range_length(memory->range) / VFIO_PAGE;
}

/* Free the piece at *link if nobody needs it any more. True if it did. */
static bool free_unused(struct uiommu_vfio *vfio, struct vfio_memory **link)
{
	struct vfio_memory *memory = *link;

	if (memory->used || memory->mapped)
		return false;
	*link = memory->next;
	vfio_uncharge(vfio, pages_of(memory));
	uiommu_free(memory, sizeof(*memory));
	return true;
}

static struct vfio_memory *find_exact(const struct uiommu_vfio *vfio, struct uiommu_range range)
{
	struct vfio_memory *memory = vfio->memory.first;

	while (memory && (memory->range.first != range.first || memory->range.last != range.last))
		memory = memory->next;
	return memory;
}

/* The largest page that the piece can be mapped with: what both its ends are aligned to. */
static unsigned largest_shift(const struct vfio_memory *memory)
{
	uint64_t ends = memory->range.first | (memory->range.last + 1);

	return ends ? (unsigned)__builtin_ctzll(ends) : 63;
}

uint64_t spapr_memory_use(struct uiommu_vfio *vfio, uint64_t vaddr, uint64_t bytes,
			  unsigned page_shift)
{
	uint64_t mask = (UINT64_C(1) << page_shift) - 1, done = 0;
	struct vfio_memory *memory;

	pthread_mutex_lock(&vfio->memory.lock);
	for (memory = vfio->memory.first; memory && done < bytes;) {
		uint64_t at = vaddr + done, piece;

		if (!range_contains(memory->range, (struct uiommu_range){at, at + mask}) ||
		    page_shift > largest_shift(memory)) {
			memory = memory->next;
			continue;
		}
		piece = (memory->range.last - at + 1) & ~mask;
		done += piece < bytes - done ? piece : bytes - done;
		memory = vfio->memory.first;
	}
	for (memory = vfio->memory.first; memory && done == bytes; memory = memory->next)
		memory->mapped += shared_bytes(memory->range, vaddr, bytes);
	pthread_mutex_unlock(&vfio->memory.lock);
	return done;
}

void spapr_memory_unuse(struct uiommu_vfio *vfio, uint64_t vaddr, uint64_t bytes)
{
	struct vfio_memory **link = &vfio->memory.first;

	pthread_mutex_lock(&vfio->memory.lock);
	while (*link) {
		(*link)->mapped -= shared_bytes((*link)->range, vaddr, bytes);
		if (!free_unused(vfio, link))
			link = &(*link)->next;
	}
	pthread_mutex_unlock(&vfio->memory.lock);
}

/* ---- requests ---- */

static int copy_request(struct vfio_spapr *spapr, uint64_t arg,
			struct vfio_iommu_spapr_register_memory *request)
{
	int ret = vfio_copy_sized(spapr->iommu.vfio, request, arg, sizeof(*request));

	if (ret)
		return ret;
	if (request->flags)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: there are none");
	if ((request->vaddr | request->size) & (VFIO_PAGE - 1))
		return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "vaddr or size",
				     UIOMMU_RANGE_NONE, (struct uiommu_range){0, VFIO_PAGE - 1});
	return 0;
}

/* A new piece, charged and on the list. memory.lock held. The order is the kernel's: the charge,
 * the memory itself, and only then whether another piece overlaps it. */
static int add_piece(struct uiommu_vfio *vfio, struct uiommu_range range, struct vfio_memory **out)
{
	uint64_t pages = range_length(range) / VFIO_PAGE;
	struct vfio_memory *memory, *other;
	int ret = vfio_charge(vfio, pages);

	if (ret)
		return ret;
	memory = uiommu_alloc(sizeof(*memory));
	if (!memory) {
		vfio_uncharge(vfio, pages);
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	}
	ret = vfio_check_source(vfio, UIOMMU_RANGE_NONE, range.first, range_length(range),
				UIOMMU_READ | UIOMMU_WRITE);
	for (other = vfio->memory.first; other && !ret; other = other->next)
		if (range_overlaps(other->range, range))
			ret = uiommu_refuse(UIOMMU_RULE_OVERLAP, -EINVAL,
					    "memory that is registered already", range,
					    other->range);
	if (ret) {
		uiommu_free(memory, sizeof(*memory));
		vfio_uncharge(vfio, pages);
		return ret;
	}
	*memory = (struct vfio_memory){.next = vfio->memory.first, .range = range};
	vfio->memory.first = memory;
	*out = memory;
	return 0;
}

static struct spapr_registration **find_registration(struct vfio_spapr *spapr,
						     const struct vfio_memory *memory)
{
	struct spapr_registration **link = &spapr->registrations;

	while (*link && (*link)->memory != memory)
		link = &(*link)->next;
	return link;
}

static int add_registration(struct vfio_spapr *spapr, struct uiommu_range range)
{
	struct uiommu_vfio *vfio = spapr->iommu.vfio;
	struct vfio_memory *memory = find_exact(vfio, range);
	struct spapr_registration *registration;
	int ret;

	if (memory && *find_registration(spapr, memory))
		return uiommu_refuse(UIOMMU_RULE_BUSY, -EBUSY, "registered already", range,
				     UIOMMU_RANGE_NONE);
	registration = uiommu_alloc(sizeof(*registration));
	if (!registration)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	ret = memory ? 0 : add_piece(vfio, range, &memory);
	if (ret) {
		uiommu_free(registration, sizeof(*registration));
		return ret;
	}
	memory->used++;
	*registration = (struct spapr_registration){spapr->registrations, memory};
	spapr->registrations = registration;
	return 0;
}

long spapr_register(struct vfio_spapr *spapr, uint64_t arg)
{
	struct vfio_iommu_spapr_register_memory request;
	struct uiommu_range range;
	int ret;

	spapr->adopted = true;
	ret = copy_request(spapr, arg, &request);
	if (ret)
		return ret;
	if (request.vaddr + request.size < request.vaddr)
		return vfio_refuse(UIOMMU_RULE_WRAP, -EINVAL, "vaddr + size");
	/* The kernel has no room for a list of no pages. */
	if (!range_from(request.vaddr, request.size, &range))
		return vfio_refuse(UIOMMU_RULE_EMPTY, -ENOMEM, "size: 0");
	pthread_mutex_lock(&spapr->iommu.vfio->memory.lock);
	ret = add_registration(spapr, range);
	pthread_mutex_unlock(&spapr->iommu.vfio->memory.lock);
	if (!ret)
		spapr->enabled = true;
	return ret;
}

/* memory.lock held. */
static void drop(struct uiommu_vfio *vfio, struct spapr_registration **link)
{
	struct spapr_registration *gone = *link;
	struct vfio_memory **memory = &vfio->memory.first;

	*link = gone->next;
	while (*memory != gone->memory)
		memory = &(*memory)->next;
	(*memory)->used--;
	free_unused(vfio, memory);
	uiommu_free(gone, sizeof(*gone));
}

/* What is still mapped stays usable for as long, and is no error: Linux from 5.0 on. */
static int remove_registration(struct vfio_spapr *spapr, struct uiommu_range range)
{
	struct uiommu_vfio *vfio = spapr->iommu.vfio;
	const struct vfio_memory *memory = find_exact(vfio, range);
	struct spapr_registration **link = memory ? find_registration(spapr, memory) : NULL;

	if (!link || !*link)
		return uiommu_refuse(UIOMMU_RULE_NOT_MAPPED, -ENOENT,
				     "exactly this was not registered", range, UIOMMU_RANGE_NONE);
	drop(vfio, link);
	return 0;
}

long spapr_unregister(struct vfio_spapr *spapr, uint64_t arg)
{
	struct vfio_iommu_spapr_register_memory request;
	struct uiommu_range range;
	int ret;

	if (!spapr->adopted)
		return vfio_refuse(UIOMMU_RULE_ORDER, -EPERM, "nothing was registered yet");
	ret = copy_request(spapr, arg, &request);
	if (ret)
		return ret;
	if (!range_from(request.vaddr, request.size, &range))
		return vfio_refuse(UIOMMU_RULE_EMPTY, -ENOENT, "nothing can be registered there");
	pthread_mutex_lock(&spapr->iommu.vfio->memory.lock);
	ret = remove_registration(spapr, range);
	pthread_mutex_unlock(&spapr->iommu.vfio->memory.lock);
	return ret;
}

void spapr_drop_registrations(struct vfio_spapr *spapr)
{
	struct uiommu_vfio *vfio = spapr->iommu.vfio;

	pthread_mutex_lock(&vfio->memory.lock);
	while (spapr->registrations)
		drop(vfio, &spapr->registrations);
	pthread_mutex_unlock(&vfio->memory.lock);
}
