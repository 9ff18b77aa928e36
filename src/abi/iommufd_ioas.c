/* SPDX-License-Identifier: MIT */
/*
 * iommufd's address spaces: owns the translation of IOAS requests to the engine's calls, the checks
 * that the kernel makes before and after them in its order, and the program's files that are
 * mapped.
 *
 * Invariants: an area's memory is the program's, by address, or a file's, which is then mapped by
 * us as long as an area shows it (iommufd.files, counted by areas). Memory has to be there from
 * when there is a domain to translate to it, as the kernel pins it then; before, nobody asks.
 *
 * Mapping and unmapping run without iommufd.lock, on an address space that is held. Removing areas
 * cannot fail.
 */
#include <errno.h>
#include <string.h>

#include "abi/iommufd.h"
#include "abi/vfio_private.h"
#include "util/alloc.h"

#define MAP_FLAGS (IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE)

/* The kernel aligns by huge pages of this size at most. */
#define HUGE_PAGE (UINT64_C(1) << 21)

static int refuse_range(enum uiommu_rule rule, int error, const char *owner,
			struct uiommu_range asked)
{
	return uiommu_refuse(rule, error, owner, asked, UIOMMU_RANGE_NONE);
}

/* ---- files that are mapped ---- */

/* Our mapping of a file; what is tagged is a dma-buf's. */
static void unmap_file(const struct uiommu_vfio *vfio, const struct imap_entry *entry)
{
	if (entry->tag)
		iommufd_dmabuf_unmap(entry->tag, entry->range.first);
	else
		vfio_unmap_file(vfio, entry->range.first, range_length(entry->range));
}

/* One more, or one less, area shows the file that is at our address @addr; if it is one. */
void iommufd_file_count(struct iommufd *iommufd, uint64_t addr, int change)
{
	struct imap_entry *entry, gone = {.range = UIOMMU_RANGE_NONE};

	pthread_mutex_lock(&iommufd->files_lock);
	entry = imap_edit(&iommufd->files, addr);
	if (entry && entry->range.first <= addr) {
		entry->value += (uint64_t)(int64_t)change;
		if (!entry->value) {
			gone = *entry;
			imap_erase(&iommufd->files, entry->range.first);
		}
	}
	pthread_mutex_unlock(&iommufd->files_lock);
	if (range_valid(gone.range))
		unmap_file(iommufd->vfio, &gone);
}

static bool is_file(struct iommufd *iommufd, uint64_t addr)
{
	const struct imap_entry *entry;
	struct imap_pos pos;
	bool found;

	pthread_mutex_lock(&iommufd->files_lock);
	entry = imap_find(&iommufd->files, addr, &pos);
	found = entry && entry->range.first <= addr;
	pthread_mutex_unlock(&iommufd->files_lock);
	return found;
}

/* ---- life ---- */

void iommufd_area_removed(void *ctx, const struct uiommu_area *area)
{
	struct iommufd_ioas *ioas = ctx;
	struct iommufd *iommufd = ioas->iommufd;

	vfio_count_removed(iommufd->vfio, range_length(area->range));
	iommufd_file_count(iommufd, area->addr, -1);
	if (atomic_load(&ioas->domains))
		iommufd_memory_unneed(iommufd, area);
	iommufd_memory_put(iommufd, area->tag);
}

int iommufd_ioas_init(struct iommufd *iommufd, struct iommufd_ioas *ioas,
		      const struct uiommu_ioas_options *options)
{
	int ret = options ? uiommu_ioas_create_constrained(options, &ioas->ioas)
			  : uiommu_ioas_create(&ioas->ioas);

	ioas->iommufd = iommufd;
	if (!ret)
		pthread_mutex_init(&ioas->pins_lock, NULL);
	return ret;
}

void iommufd_ioas_fini(struct iommufd_ioas *ioas)
{
	uint64_t bytes;

	uiommu_ioas_unmap(ioas->ioas, UIOMMU_RANGE_ALL, &bytes, iommufd_area_removed, ioas);
	uiommu_ioas_destroy(ioas->ioas);
	pthread_mutex_destroy(&ioas->pins_lock);
}

static void destroy_ioas(struct iommufd *iommufd, struct iommufd_object *object)
{
	struct iommufd_ioas *ioas = (struct iommufd_ioas *)object;

	if (ioas->ioas)
		iommufd_ioas_fini(ioas);
}

struct iommufd_ioas *iommufd_ioas_create_locked(struct iommufd *iommufd)
{
	struct iommufd_ioas *ioas =
		iommufd_object_create_locked(iommufd, sizeof(*ioas), IOMMUFD_IOAS, destroy_ioas);

	if (!ioas || !iommufd_ioas_init(iommufd, ioas, NULL))
		return ioas;
	iommufd_object_remove(iommufd, &ioas->obj);
	return NULL;
}

int iommufd_ioas_alloc(struct iommufd_call *call)
{
	struct iommufd_ioas *ioas;

	if (call->ioas_alloc.flags)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "flags: must be 0");
	pthread_mutex_lock(&call->iommufd->lock);
	ioas = iommufd_ioas_create_locked(call->iommufd);
	pthread_mutex_unlock(&call->iommufd->lock);
	if (!ioas)
		return -ENOMEM;
	call->made = &ioas->obj;
	call->ioas_alloc.out_ioas_id = ioas->obj.id;
	return iommufd_respond(call);
}

static struct iommufd_ioas *get_ioas(struct iommufd *iommufd, uint32_t id)
{
	return iommufd_get(iommufd, id, IOMMUFD_IOAS, "no such IOAS");
}

/* ---- ranges ---- */

static int write_ranges(struct iommufd_call *call, struct iommufd_ioas *ioas)
{
	uint32_t room = call->ranges.num_iovas;
	struct uiommu_range *list;
	size_t count = 0, fits;
	int ret = 0;

	uiommu_ioas_ranges(ioas->ioas, NULL, &count);
	/* A device may come or go meanwhile; then there are some more or less. */
	fits = count + 16;
	list = uiommu_alloc_array(fits, sizeof(*list));
	if (!list)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	count = fits;
	uiommu_ioas_ranges(ioas->ioas, list, &count);
	call->ranges.out_iova_alignment = uiommu_ioas_alignment(ioas->ioas);
	if (room && count)
		ret = vfio_copy_out(call->vfio, call->ranges.allowed_iovas, list,
				    (room < count ? room : count) * sizeof(*list));
	uiommu_free(list, fits * sizeof(*list));
	call->ranges.num_iovas = count;
	if (!ret)
		ret = iommufd_respond(call);
	if (!ret && count > room)
		ret = vfio_refuse(UIOMMU_RULE_ARGUMENT, -EMSGSIZE,
				  "num_iovas: there are more ranges (it says how many now)");
	return ret;
}

int iommufd_ioas_iova_ranges(struct iommufd_call *call)
{
	struct iommufd_ioas *ioas;
	int ret;

	if (call->ranges.__reserved)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "__reserved: must be 0");
	ioas = get_ioas(call->iommufd, call->ranges.ioas_id);
	if (!ioas)
		return -ENOENT;
	ret = write_ranges(call, ioas);
	iommufd_put(call->iommufd, &ioas->obj);
	return ret;
}

/* A list that grows as it is read, for its length is the program's word. */
struct range_list {
	struct uiommu_range *ranges;
	size_t count, room;
};

static int list_add(struct range_list *list, struct uiommu_range range)
{
	size_t room = list->room ? list->room * 2 : 16;
	struct uiommu_range *grown;

	if (list->count == list->room) {
		grown = uiommu_alloc_array(room, sizeof(*grown));
		if (!grown)
			return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
		if (list->count)
			memcpy(grown, list->ranges, list->count * sizeof(*grown));
		uiommu_free(list->ranges, list->room * sizeof(*grown));
		list->ranges = grown;
		list->room = room;
	}
	list->ranges[list->count++] = range;
	return 0;
}

static int read_ranges(const struct iommufd_call *call, struct range_list *list)
{
	int ret = 0;

	for (uint32_t i = 0; i < call->allow.num_iovas && !ret; i++) {
		struct uiommu_range range;

		ret = vfio_copy_in(call->vfio, &range,
				   call->allow.allowed_iovas + i * sizeof(range), sizeof(range));
		if (!ret && range.first >= range.last)
			ret = refuse_range(UIOMMU_RULE_EMPTY, -EINVAL, "start must be below last",
					   range);
		if (!ret)
			ret = list_add(list, range);
	}
	return ret;
}

int iommufd_ioas_allow_iovas(struct iommufd_call *call)
{
	struct range_list list = {0};
	struct iommufd_ioas *ioas;
	int ret;

	if (call->allow.__reserved)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "__reserved: must be 0");
	ioas = get_ioas(call->iommufd, call->allow.ioas_id);
	if (!ioas)
		return -ENOENT;
	ret = read_ranges(call, &list);
	if (!ret)
		ret = uiommu_ioas_allow(ioas->ioas, list.ranges, list.count);
	uiommu_free(list.ranges, list.room * sizeof(*list.ranges));
	iommufd_put(call->iommufd, &ioas->obj);
	return ret;
}

/* ---- mapping ---- */

static int prot_of(uint32_t flags)
{
	return (flags & IOMMU_IOAS_MAP_READABLE ? UIOMMU_READ : 0) |
	       (flags & IOMMU_IOAS_MAP_WRITEABLE ? UIOMMU_WRITE : 0);
}

/* What MAP, MAP_FILE and COPY ask first. */
static int check_map(uint32_t flags, uint64_t iova, uint64_t length)
{
	if (flags & ~MAP_FLAGS)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "flags: an unknown one");
	if (iova == UINT64_MAX || length == UINT64_MAX)
		return vfio_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, "iova or length: 2^64 - 1");
	if (!prot_of(flags))
		return vfio_refuse(UIOMMU_RULE_PERMISSION, -EINVAL,
				   "flags: neither READABLE nor WRITEABLE");
	return 0;
}

/* A range that was asked for, in the kernel's order. */
static int check_fixed(struct iommufd_ioas *ioas, uint64_t iova, uint64_t length,
		       struct uiommu_range *range)
{
	uint64_t alignment = uiommu_ioas_alignment(ioas->ioas);
	struct uiommu_area area;
	int ret;

	if (iova & (alignment - 1))
		return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "iova",
				     (struct uiommu_range){iova, iova},
				     (struct uiommu_range){0, alignment - 1});
	if (!range_from(iova, length, range))
		return refuse_range(UIOMMU_RULE_WRAP, -EOVERFLOW, "iova + length",
				    (struct uiommu_range){iova, UINT64_MAX});
	ret = uiommu_ioas_check(ioas->ioas, *range);
	if (ret)
		return ret;
	if (!uiommu_ioas_find(ioas->ioas, iova, &area) && area.range.first <= range->last)
		return uiommu_refuse(UIOMMU_RULE_OVERLAP, -EEXIST, "an existing mapping", *range,
				     area.range);
	return 0;
}

/* Linux' choice of an alignment for memory that begins at @start. */
static uint64_t place_alignment(uint64_t start, uint64_t length)
{
	uint64_t alignment = pow2_ceil(length);

	if (start && (start & -start) < alignment)
		alignment = start & -start;
	return alignment < HUGE_PAGE ? alignment : HUGE_PAGE;
}

struct map_memory {
	uint64_t addr;	/* where it is for us */
	uint64_t start; /* its alignment is this one's: an address, or a file's offset */
	uint64_t length;
	int prot;
	bool uncounted; /* a dma-buf: its maker has the pages */
};

/* As type 1's, but a device's registers are no memory: they have no pages that could be pinned. */
static int check_pages(struct iommufd *iommufd, struct uiommu_range iova, uint64_t vaddr,
		       uint64_t bytes, int prot)
{
	const struct uiommu_vfio_host *host = &iommufd->vfio->host;

	if (host->registers_at && host->registers_at(host->ctx, vaddr, bytes))
		return uiommu_refuse(UIOMMU_RULE_SOURCE, -EFAULT, "a device's registers", iova,
				     (struct uiommu_range){vaddr, vaddr + (bytes - 1)});
	return vfio_check_source(iommufd->vfio, iova, vaddr, bytes, prot);
}

static int check_area(struct iommufd *iommufd, const struct uiommu_area *area)
{
	return check_pages(iommufd, area->range, area->addr, range_length(area->range), area->prot);
}

/* Memory has to be there, and may have to be pinned, once somebody may translate to it. */
static int need_memory(struct iommufd *iommufd, const struct uiommu_area *area)
{
	int ret = check_area(iommufd, area);

	return ret ? ret : iommufd_memory_need(iommufd, area);
}

/* Map it to a range, or (@place) anywhere: then the range says no more than how long it is. */
static int enter_area(struct iommufd_ioas *ioas, struct uiommu_area *area,
		      const struct uiommu_place *place, uint64_t *iova)
{
	bool needed = atomic_load(&ioas->domains);
	int ret = needed ? need_memory(ioas->iommufd, area) : 0;

	/* A place is looked for first: where there is none, that is the error. */
	if (ret && place) {
		struct uiommu_range range;
		int none =
			uiommu_ioas_find_place(ioas->ioas, place, area->addr, area->prot, &range);

		return none ? none : ret;
	}
	if (ret)
		return ret;
	if (place)
		ret = uiommu_ioas_map_anywhere(ioas->ioas, place, area->addr, area->prot, area->tag,
					       iova);
	else
		ret = uiommu_ioas_map(ioas->ioas, area->range, area->addr, area->prot, area->tag);
	if (ret && needed)
		iommufd_memory_unneed(ioas->iommufd, area);
	return ret;
}

/* With what it is counted by, where that is: then nobody takes a domain away meanwhile. */
static int count_and_enter(struct iommufd_ioas *ioas, const struct map_memory *memory,
			   struct uiommu_area *area, const struct uiommu_place *place,
			   uint64_t *iova)
{
	struct iommufd_memory *counted = NULL;
	int ret;

	if (!ioas->iommufd->vfio->memlock || memory->uncounted)
		return enter_area(ioas, area, place, iova);
	ret = iommufd_memory_create(ioas->iommufd, memory->addr, memory->length, &counted);
	if (ret)
		return ret;
	area->tag = counted;
	pthread_mutex_lock(&ioas->pins_lock);
	ret = enter_area(ioas, area, place, iova);
	pthread_mutex_unlock(&ioas->pins_lock);
	if (ret)
		iommufd_memory_put(ioas->iommufd, counted);
	return ret;
}

static int map_memory(struct iommufd_ioas *ioas, const struct map_memory *memory, bool fixed,
		      uint64_t *iova)
{
	struct uiommu_place place = {
		.size = sizeof(place),
		.length = memory->length,
	};
	uint64_t alignment = uiommu_ioas_alignment(ioas->ioas);
	struct uiommu_area area = {.addr = memory->addr, .prot = memory->prot};
	int ret = 0;

	if (!memory->length || memory->length > UINT64_MAX - VFIO_PAGE)
		return vfio_refuse(UIOMMU_RULE_EMPTY, -EINVAL, "length");
	if (fixed)
		ret = check_fixed(ioas, *iova, memory->length, &area.range);
	else
		area.range = (struct uiommu_range){0, memory->length - 1};
	if (!ret && ((memory->addr | memory->length) & (alignment - 1)))
		ret = uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "memory or length",
				    UIOMMU_RANGE_NONE, (struct uiommu_range){0, alignment - 1});
	if (ret)
		return ret;
	place.alignment =
		memory->length >> 63 ? HUGE_PAGE : place_alignment(memory->start, memory->length);
	ret = count_and_enter(ioas, memory, &area, fixed ? NULL : &place, iova);
	if (!ret)
		vfio_count_map(ioas->iommufd->vfio, memory->length);
	return ret;
}

int iommufd_map_user(struct iommufd_ioas *ioas, uint64_t vaddr, uint64_t length, int prot,
		     bool fixed, uint64_t *iova)
{
	const struct map_memory memory = {vaddr, vaddr, length, prot, false};

	if (vaddr + length < vaddr)
		return vfio_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, "user_va + length");
	return map_memory(ioas, &memory, fixed, iova);
}

int iommufd_ioas_map(struct iommufd_call *call)
{
	struct iommufd_ioas *ioas;
	int ret;

	if (call->map.__reserved)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "__reserved: must be 0");
	ret = check_map(call->map.flags, call->map.iova, call->map.length);
	if (ret)
		return ret;
	ioas = get_ioas(call->iommufd, call->map.ioas_id);
	if (!ioas)
		return -ENOENT;
	ret = iommufd_map_user(ioas, call->map.user_va, call->map.length, prot_of(call->map.flags),
			       call->map.flags & IOMMU_IOAS_MAP_FIXED_IOVA, &call->map.iova);
	iommufd_put(call->iommufd, &ioas->obj);
	return ret ? ret : iommufd_respond(call);
}

/* Whole pages of a file, or of a dma-buf, for ourselves. */
static int map_file(struct iommufd_call *call, uint64_t offset, struct imap_entry *entry)
{
	struct iommufd_dmabuf *dmabuf = iommufd_dmabuf_get(call, call->map_file.fd);
	uint64_t length = entry->range.last + 1;
	int ret;

	if (!dmabuf)
		return vfio_map_file(call->vfio, call->map_file.fd, offset, length,
				     call->map_file.flags & IOMMU_IOAS_MAP_WRITEABLE,
				     &entry->range.first);
	ret = iommufd_dmabuf_map(dmabuf, offset, length, &entry->range.first);
	if (ret)
		iommufd_dmabuf_put(dmabuf);
	else
		entry->tag = dmabuf;
	return ret;
}

/* Map the file for ourselves, and enter it with one area to come. @memory gets to know where its
 * first byte is. */
static int enter_file(struct iommufd_call *call, struct map_memory *memory)
{
	uint64_t offset = call->map_file.start & ~(VFIO_PAGE - 1), last;
	struct imap_entry entry = {.value = 1};
	int ret;

	if (!call->map_file.length)
		return vfio_refuse(UIOMMU_RULE_EMPTY, -EINVAL, "length: 0");
	last = call->map_file.start + (call->map_file.length - 1);
	if (last < call->map_file.start || last > INT64_MAX)
		return vfio_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, "start + length");
	entry.range.last = last - offset;
	ret = map_file(call, offset, &entry);
	if (ret)
		return ret;
	memory->addr = entry.range.first + (call->map_file.start - offset);
	memory->uncounted = entry.tag;
	entry.range.last += entry.range.first;
	pthread_mutex_lock(&call->iommufd->files_lock);
	ret = imap_insert(&call->iommufd->files, &entry, NULL);
	pthread_mutex_unlock(&call->iommufd->files_lock);
	if (!ret)
		return 0;
	unmap_file(call->vfio, &entry);
	return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
}

int iommufd_ioas_map_file(struct iommufd_call *call)
{
	struct map_memory memory = {.start = call->map_file.start,
				    .length = call->map_file.length,
				    .prot = prot_of(call->map_file.flags)};
	struct iommufd_ioas *ioas;
	int ret;

	ret = check_map(call->map_file.flags, call->map_file.iova, call->map_file.length);
	if (ret)
		return ret;
	ioas = get_ioas(call->iommufd, call->map_file.ioas_id);
	if (!ioas)
		return -ENOENT;
	ret = enter_file(call, &memory);
	if (!ret) {
		ret = map_memory(ioas, &memory, call->map_file.flags & IOMMU_IOAS_MAP_FIXED_IOVA,
				 &call->map_file.iova);
		if (ret)
			iommufd_file_count(call->iommufd, memory.addr, -1);
	}
	iommufd_put(call->iommufd, &ioas->obj);
	return ret ? ret : iommufd_respond(call);
}

/* ---- copying ---- */

bool iommufd_ioas_covers(struct iommufd_ioas *ioas, struct uiommu_range range)
{
	struct uiommu_area area;

	for (uint64_t at = range.first;; at = area.range.last + 1) {
		if (uiommu_ioas_find(ioas->ioas, at, &area) || area.range.first > at)
			return false;
		if (area.range.last >= range.last)
			return true;
	}
}

/* All of the source must be mapped, by any number of areas. */
static int check_source(struct iommufd_ioas *source, uint64_t iova, uint64_t length)
{
	struct uiommu_range range;

	if (!length)
		return vfio_refuse(UIOMMU_RULE_EMPTY, -EINVAL, "length: 0");
	if (!range_from(iova, length, &range))
		return vfio_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, "src_iova + length");
	if (!iommufd_ioas_covers(source, range))
		return refuse_range(UIOMMU_RULE_NOT_MAPPED, -ENOENT, "the source range", range);
	return 0;
}

static int copy_hold(void *ctx, const struct uiommu_op *op, const struct uiommu_area *area)
{
	struct iommufd_ioas *target = ctx;
	struct iommufd *iommufd = target->iommufd;
	int ret = atomic_load(&target->domains) ? iommufd_memory_need(iommufd, area) : 0;

	if (ret)
		return ret;
	iommufd_memory_get(iommufd, area->tag);
	iommufd_file_count(iommufd, area->addr, 1);
	vfio_count_areas(iommufd->vfio, 1, range_length(area->range));
	return 0;
}

static int submit_copy(struct iommufd_ioas *target, struct uiommu_op *op)
{
	const struct uiommu_batch_options options = {.size = sizeof(options),
						     .hold = copy_hold,
						     .release = iommufd_area_removed,
						     .ctx = target};
	bool counted = target->iommufd->vfio->memlock;
	int ret;

	if (counted)
		pthread_mutex_lock(&target->pins_lock);
	ret = uiommu_batch_submit(op, 1, &options);
	if (counted)
		pthread_mutex_unlock(&target->pins_lock);
	return ret;
}

/* Choose an IOVA as for the memory where the source begins. */
static int copy_areas(struct iommufd_call *call, struct iommufd_ioas *target,
		      struct iommufd_ioas *source)
{
	const struct iommu_ioas_copy *copy = &call->copy;
	bool fixed = copy->flags & IOMMU_IOAS_MAP_FIXED_IOVA;
	struct uiommu_place place = {.size = sizeof(place), .length = copy->length};
	struct uiommu_op op = {
		.kind = UIOMMU_OP_COPY,
		.prot = prot_of(copy->flags),
		.ioas = target->ioas,
		.addr = copy->src_iova,
		.source = source->ioas,
		.place = fixed ? NULL : &place,
	};
	struct uiommu_area area;
	int ret;

	if (fixed) {
		ret = check_fixed(target, copy->dst_iova, copy->length, &op.range);
	} else {
		ret = uiommu_ioas_find(source->ioas, copy->src_iova, &area);
		if (!ret)
			place.alignment = place_alignment(
				area.addr + (copy->src_iova - area.range.first), copy->length);
	}
	if (!ret)
		ret = submit_copy(target, &op);
	if (ret)
		return ret;
	vfio_count_call(call->vfio, copy->length);
	call->copy.dst_iova = op.range.first;
	return 0;
}

int iommufd_ioas_copy(struct iommufd_call *call)
{
	struct iommufd_ioas *source, *target = NULL;
	int ret;

	ret = check_map(call->copy.flags, call->copy.dst_iova, call->copy.length);
	if (ret)
		return ret;
	source = get_ioas(call->iommufd, call->copy.src_ioas_id);
	if (!source)
		return -ENOENT;
	ret = check_source(source, call->copy.src_iova, call->copy.length);
	if (!ret) {
		target = get_ioas(call->iommufd, call->copy.dst_ioas_id);
		ret = target ? copy_areas(call, target, source) : -ENOENT;
	}
	if (target)
		iommufd_put(call->iommufd, &target->obj);
	iommufd_put(call->iommufd, &source->obj);
	return ret ? ret : iommufd_respond(call);
}

/* ---- options, processes ---- */

static int set_huge_pages(struct iommufd_ioas *ioas, uint64_t value)
{
	struct uiommu_ioas_stats stats;
	int ret;

	if (value > 1)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "val64: 0 or 1");
	uiommu_ioas_stats(ioas->ioas, &stats);
	if (!value && !ioas->small_pages && ioas->hwpts && stats.areas)
		return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL,
				   "large pages may be in use: there are a domain and mappings");
	/* Without large leaves all is made of pages of the processor's. */
	ret = uiommu_ioas_align(ioas->ioas, value ? 1 : VFIO_PAGE);
	if (ret)
		return ret;
	ioas->small_pages = !value;
	for (struct iommufd_hwpt *hwpt = ioas->hwpts; hwpt; hwpt = hwpt->next)
		uiommu_domain_large_pages(hwpt->domain, value);
	return 0;
}

int iommufd_ioas_option(struct iommufd_call *call)
{
	struct iommufd *iommufd = call->iommufd;
	struct iommufd_ioas *ioas;
	int ret = 0;

	pthread_mutex_lock(&iommufd->lock);
	ioas = iommufd_find(iommufd, call->option.object_id, IOMMUFD_IOAS);
	if (!ioas)
		ret = iommufd_refuse_id("object_id: no such IOAS");
	else if (call->option.op == IOMMU_OPTION_OP_GET)
		call->option.val64 = !ioas->small_pages;
	else if (call->option.op == IOMMU_OPTION_OP_SET)
		ret = set_huge_pages(ioas, call->option.val64);
	else
		ret = vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "op: neither SET nor GET");
	pthread_mutex_unlock(&iommufd->lock);
	return ret;
}

/* Are all of its areas files'? */
static bool files_only(struct iommufd *iommufd, const struct iommufd_ioas *ioas)
{
	struct uiommu_area area;

	for (uint64_t at = 0; !uiommu_ioas_find(ioas->ioas, at, &area); at = area.range.last + 1) {
		if (!is_file(iommufd, area.addr))
			return false;
		if (area.range.last == UINT64_MAX)
			break;
	}
	return true;
}

/* Files are reached by ourselves, whatever process the program continues in. */
int iommufd_ioas_change_process(struct iommufd_call *call)
{
	struct iommufd *iommufd = call->iommufd;
	int ret = 0;

	if (call->change_process.__reserved)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "__reserved: must be 0");
	pthread_mutex_lock(&iommufd->lock);
	for (size_t i = 0; i < iommufd->room && !ret; i++) {
		struct iommufd_object *object = iommufd->objects[i];

		if (object && object->ready && object->type == IOMMUFD_IOAS &&
		    !files_only(iommufd, (struct iommufd_ioas *)object))
			ret = vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
					  "not all that is mapped is a file (IOAS_MAP_FILE)");
	}
	pthread_mutex_unlock(&iommufd->lock);
	return ret;
}

/* ---- domains ---- */

int iommufd_ioas_add_domain(struct iommufd_ioas *ioas)
{
	int ret = 0;

	pthread_mutex_lock(&ioas->pins_lock);
	/* From now on what is mapped asks for memory; so nothing slips in between. */
	if (!atomic_fetch_add(&ioas->domains, 1))
		ret = iommufd_ioas_need(ioas, UIOMMU_RANGE_ALL, check_area);
	if (ret)
		atomic_fetch_sub(&ioas->domains, 1);
	pthread_mutex_unlock(&ioas->pins_lock);
	return ret;
}

void iommufd_ioas_drop_domain(struct iommufd_ioas *ioas)
{
	pthread_mutex_lock(&ioas->pins_lock);
	if (atomic_fetch_sub(&ioas->domains, 1) == 1)
		iommufd_ioas_unneed(ioas, UIOMMU_RANGE_ALL);
	pthread_mutex_unlock(&ioas->pins_lock);
}
