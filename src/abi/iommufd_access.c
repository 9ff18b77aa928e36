/* SPDX-License-Identifier: MIT */
/*
 * Accesses, by which software reads, writes and holds the pages of an address space; in the kernel,
 * devices that are no hardware use them, and its selftests.
 *
 * Invariants: an access is a file; it is a user of its address space and keeps its context. Pages
 * that it holds are ranges of IOVAs that were mapped when it took them; unmapping one of them makes
 * it let go first.
 *
 * Locks: an access' address space and pages: that address space's pins_lock; which one it is:
 * iommufd.lock too. Destroying can't fail.
 */
#include <errno.h>

#include "abi/iommufd_test.h"
#include "abi/vfio_private.h"
#include "util/alloc.h"
#include "util/range.h"

/* The kernel's bound on what one request may ask for. */
#define LENGTH_MAX (UINT64_C(16) << 20)

/* Pages that are held. */
struct access_item {
	struct access_item *next;
	struct uiommu_range range;
	uint32_t id;
};

struct iommufd_access {
	struct iommufd_access *next; /* of the address space */
	struct iommufd *iommufd;
	struct iommufd_ioas *ioas;
	struct uiommu_vfio_file *file;
	bool pins; /* it may hold pages */
	struct access_item *items;
	uint32_t next_id;
};

/* ---- letting go ---- */

static void drop_items(struct iommufd_access *access, struct uiommu_range range)
{
	struct access_item **link = &access->items;

	while (*link) {
		struct access_item *item = *link;

		if (range_overlaps(item->range, range)) {
			*link = item->next;
			iommufd_ioas_unneed(access->ioas, item->range);
			uiommu_free(item, sizeof(*item));
		} else {
			link = &item->next;
		}
	}
}

void iommufd_access_unmapping(struct iommufd_ioas *ioas, struct uiommu_range range)
{
	for (struct iommufd_access *access = ioas->accesses; access; access = access->next)
		drop_items(access, range);
}

bool iommufd_access_holds(const struct iommufd_ioas *ioas, struct uiommu_range range)
{
	for (const struct iommufd_access *access = ioas->accesses; access; access = access->next)
		for (const struct access_item *item = access->items; item; item = item->next)
			if (range_overlaps(item->range, range))
				return true;
	return false;
}

/* iommufd.lock held. */
static void leave(struct iommufd_access *access)
{
	struct iommufd_ioas *ioas = access->ioas;
	struct iommufd_access **link = &ioas->accesses;

	pthread_mutex_lock(&ioas->pins_lock);
	drop_items(access, UIOMMU_RANGE_ALL);
	while (*link != access)
		link = &(*link)->next;
	*link = access->next;
	pthread_mutex_unlock(&ioas->pins_lock);
	ioas->obj.users--;
}

static void join(struct iommufd_access *access, struct iommufd_ioas *ioas)
{
	ioas->obj.users++;
	pthread_mutex_lock(&ioas->pins_lock);
	access->ioas = ioas;
	access->next = ioas->accesses;
	ioas->accesses = access;
	pthread_mutex_unlock(&ioas->pins_lock);
}

/* ---- life ---- */

void iommufd_access_closed(struct iommufd_access *access)
{
	struct iommufd *iommufd = access->iommufd;

	pthread_mutex_lock(&iommufd->lock);
	leave(access);
	pthread_mutex_unlock(&iommufd->lock);
	iommufd_put_ref(iommufd);
	uiommu_free(access, sizeof(*access));
}

static int install(struct uiommu_vfio *vfio, struct uiommu_vfio_file *file)
{
	int fd = vfio->host.install ? vfio->host.install(vfio->host.ctx, file) : -EOPNOTSUPP;

	if (fd >= 0)
		return fd;
	uiommu_vfio_release(file);
	return vfio_refuse(UIOMMU_RULE_LIMIT, fd, "a descriptor");
}

static int make_access(struct iommufd_call *call, uint32_t ioas_id, bool pins,
		       struct uiommu_vfio_file **file)
{
	struct iommufd *iommufd = call->iommufd;
	struct iommufd_access *access = uiommu_alloc(sizeof(*access));
	struct iommufd_ioas *ioas;
	int ret = -ENOMEM;

	if (!access)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, ret, NULL);
	access->iommufd = iommufd;
	access->pins = pins;
	pthread_mutex_lock(&call->vfio->lock);
	pthread_mutex_lock(&iommufd->lock);
	ioas = iommufd_find(iommufd, ioas_id, IOMMUFD_IOAS);
	*file = ioas ? vfio_file_create(call->vfio, UIOMMU_VFIO_ACCESS, access) : NULL;
	if (*file) {
		access->file = *file;
		join(access, ioas);
		iommufd_get_ref(iommufd);
		ret = 0;
	} else if (!ioas) {
		ret = iommufd_refuse_id("id: no such IOAS");
	}
	pthread_mutex_unlock(&iommufd->lock);
	pthread_mutex_unlock(&call->vfio->lock);
	if (ret)
		uiommu_free(access, sizeof(*access));
	return ret;
}

int iommufd_access_create(struct iommufd_call *call, struct iommu_test_cmd *cmd)
{
	struct uiommu_vfio_file *file = NULL;
	int ret;

	if (cmd->create_access.flags & ~MOCK_ACCESS_NEEDS_PIN_PAGES)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "flags: an unknown one");
	/* A descriptor can't be taken back: so the answer is tried out before. */
	ret = iommufd_respond(call);
	if (!ret)
		ret = make_access(call, cmd->id, cmd->create_access.flags, &file);
	if (ret)
		return ret;
	ret = install(call->vfio, file);
	if (ret < 0)
		return ret;
	cmd->create_access.out_access_fd = (uint32_t)ret;
	return iommufd_respond(call);
}

/* The access behind a descriptor, or NULL and an error. It stays as long as the request. */
static struct iommufd_access *get_access(struct iommufd_call *call, uint32_t fd, int *error)
{
	struct uiommu_vfio_file *file =
		vfio_file_from_fd(call->vfio, (int)fd, UIOMMU_VFIO_ACCESS, -EBADFD, error);

	if (!file)
		*error = -EBADFD;
	return file ? file->access : NULL;
}

int iommufd_access_replace(struct iommufd_call *call, const struct iommu_test_cmd *cmd)
{
	struct iommufd_access *access;
	struct iommufd_ioas *ioas;
	int ret = 0;

	access = get_access(call, cmd->id, &ret);
	if (!access)
		return ret;
	pthread_mutex_lock(&access->iommufd->lock);
	ioas = iommufd_find(access->iommufd, cmd->access_replace_ioas.ioas_id, IOMMUFD_IOAS);
	if (!ioas) {
		ret = iommufd_refuse_id("ioas_id: no such IOAS");
	} else if (ioas != access->ioas) {
		leave(access);
		join(access, ioas);
	}
	pthread_mutex_unlock(&access->iommufd->lock);
	return ret;
}

/* The address space of an access, with its pins_lock held, so that nothing is unmapped. */
static struct iommufd_ioas *lock_space(struct iommufd_access *access)
{
	struct iommufd_ioas *ioas;

	pthread_mutex_lock(&access->iommufd->lock);
	ioas = access->ioas;
	pthread_mutex_lock(&ioas->pins_lock);
	pthread_mutex_unlock(&access->iommufd->lock);
	return ioas;
}

/* ---- pages ---- */

struct walk {
	struct iommufd_call *call;
	struct iommufd_ioas *ioas;
	int prot;
	/* One piece of an area: where it is for us, and how far into the walk. */
	int (*piece)(void *ctx, uint64_t addr, uint64_t length, uint64_t done);
	void *ctx;
};

/* Over all of a range, area by area; pins_lock held. */
static int walk(const struct walk *walk, struct uiommu_range range)
{
	for (uint64_t at = range.first;;) {
		struct uiommu_area area;
		uint64_t last;
		int ret;

		if (uiommu_ioas_find(walk->ioas->ioas, at, &area) || area.range.first > at)
			return uiommu_refuse(UIOMMU_RULE_NOT_MAPPED, -ENOENT, NULL, range,
					     (struct uiommu_range){at, at});
		if (walk->prot & ~area.prot)
			return uiommu_refuse(UIOMMU_RULE_PERMISSION, -EPERM, NULL, range,
					     area.range);
		last = area.range.last < range.last ? area.range.last : range.last;
		ret = walk->piece(walk->ctx, area.addr + (at - area.range.first), last - at + 1,
				  at - range.first);
		if (ret || last == range.last)
			return ret;
		at = last + 1;
	}
}

/* Are these the pages that the program sees at @uptr? */
struct page_check {
	struct iommufd_call *call;
	uint64_t uptr; /* where the range's first page is for the program; 0: not asked */
	uint64_t length;
};

static int check_piece(void *ctx, uint64_t addr, uint64_t length, uint64_t done)
{
	const struct page_check *check = ctx;
	struct uiommu_range all = {done, done + length - 1};
	int ret;

	/* Pages are held whole. */
	if (addr & (VFIO_PAGE - 1) || (done + length < check->length && length & (VFIO_PAGE - 1)))
		return vfio_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL,
				   "iova: not a page of the memory's");
	ret = vfio_check_source(check->call->vfio, all, addr, length, UIOMMU_READ);
	if (ret || !check->uptr)
		return ret;
	return iommufd_same_memory(check->call, addr, check->uptr + done, length) ? 0 : -EBADE;
}

/* The access has the item from here on, unless there is an error: it may have let go again already.
 */
static int hold_pages(struct iommufd_call *call, struct iommufd_access *access,
		      struct iommu_test_cmd *cmd, struct uiommu_range range,
		      struct access_item *item)
{
	struct page_check check = {call, cmd->access_pages.uptr, cmd->access_pages.length};
	struct walk how = {.call = call,
			   .ioas = lock_space(access),
			   .prot = cmd->access_pages.flags & MOCK_PAGES_WRITE ? UIOMMU_WRITE
									      : UIOMMU_READ,
			   .piece = check_piece,
			   .ctx = &check};
	int ret = walk(&how, range);

	if (!ret)
		ret = iommufd_ioas_need(how.ioas, range, NULL);
	if (!ret) {
		item->range = range;
		item->id = access->next_id++;
		item->next = access->items;
		access->items = item;
		cmd->access_pages.out_access_pages_id = item->id;
	}
	pthread_mutex_unlock(&how.ioas->pins_lock);
	return ret;
}

static bool let_go(struct iommufd_access *access, uint32_t id)
{
	struct iommufd_ioas *ioas = lock_space(access);
	struct access_item **link = &access->items, *item;
	bool found;

	while (*link && (*link)->id != id)
		link = &(*link)->next;
	item = *link;
	found = item;
	if (found) {
		*link = item->next;
		iommufd_ioas_unneed(ioas, item->range);
	}
	pthread_mutex_unlock(&ioas->pins_lock);
	uiommu_free(item, sizeof(*item));
	return found;
}

int iommufd_access_pages(struct iommufd_call *call, struct iommu_test_cmd *cmd)
{
	struct iommufd_access *access;
	struct access_item *item;
	struct uiommu_range range;
	int ret = 0;

	if (cmd->access_pages.length > LENGTH_MAX)
		return vfio_refuse(UIOMMU_RULE_LIMIT, -ENOMEM, "length: more than 16 MiB");
	if (cmd->access_pages.flags & ~MOCK_PAGES_WRITE)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "flags: an unknown one");
	access = get_access(call, cmd->id, &ret);
	if (!access)
		return ret;
	if (!access->pins)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EOPNOTSUPP,
				   "the access holds no pages");
	if (!cmd->access_pages.length)
		return vfio_refuse(UIOMMU_RULE_EMPTY, -EINVAL, "length: 0");
	if (!range_from(cmd->access_pages.iova, cmd->access_pages.length, &range))
		return vfio_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, "iova + length");
	item = uiommu_alloc(sizeof(*item));
	if (!item)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	ret = hold_pages(call, access, cmd, range, item);
	if (ret) {
		uiommu_free(item, sizeof(*item));
		return ret;
	}
	ret = iommufd_respond(call);
	if (ret)
		let_go(access, cmd->access_pages.out_access_pages_id);
	return ret;
}

int iommufd_access_pages_destroy(struct iommufd_call *call, const struct iommu_test_cmd *cmd)
{
	struct iommufd_access *access;
	int ret = 0;

	access = get_access(call, cmd->id, &ret);
	if (!access)
		return ret;
	return let_go(access, cmd->destroy_access_pages.access_pages_id)
		       ? 0
		       : iommufd_refuse_id("access_pages_id: holds no such pages");
}

/* ---- reading and writing ---- */

struct copy {
	const struct uiommu_memory *memory;
	char *buf;
	bool write;
};

static int copy_piece(void *ctx, uint64_t addr, uint64_t length, uint64_t done)
{
	const struct copy *copy = ctx;
	const struct uiommu_memory *memory = copy->memory;

	return copy->write ? memory->ops->write(memory->ctx, addr, copy->buf + done, length)
			   : memory->ops->read(memory->ctx, addr, copy->buf + done, length);
}

static int copy_range(struct iommufd_call *call, struct iommufd_access *access,
		      const struct iommu_test_cmd *cmd, char *buf)
{
	struct copy copy = {uiommu_unit_memory(call->vfio->mock->hw.unit), buf,
			    cmd->access_rw.flags & MOCK_RW_WRITE};
	struct walk how = {.call = call,
			   .prot = copy.write ? UIOMMU_WRITE : UIOMMU_READ,
			   .piece = copy_piece,
			   .ctx = &copy};
	struct uiommu_range range;
	int ret;

	if (!cmd->access_rw.length)
		return vfio_refuse(UIOMMU_RULE_EMPTY, -EINVAL, "length: 0");
	if (!range_from(cmd->access_rw.iova, cmd->access_rw.length, &range))
		return vfio_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, "iova + length");
	how.ioas = lock_space(access);
	ret = walk(&how, range);
	pthread_mutex_unlock(&how.ioas->pins_lock);
	return ret;
}

int iommufd_access_rw(struct iommufd_call *call, const struct iommu_test_cmd *cmd)
{
	uint64_t length = cmd->access_rw.length;
	bool write = cmd->access_rw.flags & MOCK_RW_WRITE;
	struct iommufd_access *access;
	char *buf;
	int ret = 0;

	if (length > LENGTH_MAX)
		return vfio_refuse(UIOMMU_RULE_LIMIT, -ENOMEM, "length: more than 16 MiB");
	if (cmd->access_rw.flags & ~(MOCK_RW_WRITE | MOCK_RW_SLOW_PATH))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "flags: an unknown one");
	access = get_access(call, cmd->id, &ret);
	if (!access)
		return ret;
	buf = uiommu_alloc(length + 1);
	if (!buf)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	if (write && length)
		ret = vfio_copy_in(call->vfio, buf, cmd->access_rw.uptr, length);
	if (!ret)
		ret = copy_range(call, access, cmd, buf);
	if (!ret && !write)
		ret = vfio_copy_out(call->vfio, cmd->access_rw.uptr, buf, length);
	uiommu_free(buf, length + 1);
	return ret;
}
