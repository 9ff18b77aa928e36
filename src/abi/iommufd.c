/* SPDX-License-Identifier: MIT */
/*
 * The iommufd front end itself: owns a context's table of objects, and takes requests apart in the
 * kernel's order: the number, the struct's size, its tail, and only then what it asks for.
 *
 * An object that a request makes can be found only once the request has succeeded; if it fails, the
 * object is gone when it returns. A context lives while its file is open, a device is bound to it
 * or a group uses it; then its objects go, those first that nothing rests on. Destroying cannot
 * fail.
 *
 * Locks: iommufd.lock guards the table; requests that take long hold the object instead. The
 * numbers are the lowest that are free, as the kernel's are.
 */
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "abi/iommufd_test.h"
#include "abi/vfio_private.h"
#include "util/alloc.h"

/* ---- objects ---- */

/* A place in the table, and its number. */
static int take_number(struct iommufd *iommufd, struct iommufd_object *object)
{
	struct iommufd_object **grown;
	size_t at = iommufd->lowest, room;

	while (at < iommufd->room && iommufd->objects[at])
		at++;
	if (at == iommufd->room) {
		room = iommufd->room ? iommufd->room * 2 : 16;
		grown = room < INT32_MAX ? uiommu_alloc_array(room, sizeof(*grown)) : NULL;
		if (!grown)
			return -ENOMEM;
		if (iommufd->room)
			memcpy(grown, iommufd->objects, iommufd->room * sizeof(*grown));
		uiommu_free(iommufd->objects, iommufd->room * sizeof(*grown));
		iommufd->objects = grown;
		iommufd->room = room;
	}
	iommufd->objects[at] = object;
	iommufd->lowest = at + 1;
	object->id = (uint32_t)at + 1;
	return 0;
}

void *iommufd_object_create_locked(struct iommufd *iommufd, size_t size, enum iommufd_type type,
				   void (*destroy)(struct iommufd *, struct iommufd_object *))
{
	struct iommufd_object *object = uiommu_alloc(size);

	if (object) {
		object->type = type;
		object->size = size;
		object->destroy = destroy;
	}
	if (!object || take_number(iommufd, object)) {
		uiommu_free(object, size);
		vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
		return NULL;
	}
	return object;
}

void iommufd_object_finish(struct iommufd_object *object)
{
	object->ready = true;
}

void iommufd_object_remove(struct iommufd *iommufd, struct iommufd_object *object)
{
	object->ready = false;
	object->removing = true;
	while (object->held)
		pthread_cond_wait(&iommufd->idle, &iommufd->lock);
	if (object->destroy)
		object->destroy(iommufd, object);
	iommufd->objects[object->id - 1] = NULL;
	if (object->id - 1 < iommufd->lowest)
		iommufd->lowest = object->id - 1;
	uiommu_free(object, object->size);
}

void *iommufd_find(struct iommufd *iommufd, uint32_t id, enum iommufd_type type)
{
	struct iommufd_object *object = id && id <= iommufd->room ? iommufd->objects[id - 1] : NULL;

	return object && object->ready && object->type == type ? object : NULL;
}

int iommufd_refuse_id(const char *what)
{
	return vfio_refuse(UIOMMU_RULE_ARGUMENT, -ENOENT, what);
}

void *iommufd_get(struct iommufd *iommufd, uint32_t id, enum iommufd_type type, const char *what)
{
	struct iommufd_object *object;

	pthread_mutex_lock(&iommufd->lock);
	object = iommufd_find(iommufd, id, type);
	if (object)
		iommufd_hold(iommufd, object);
	pthread_mutex_unlock(&iommufd->lock);
	if (!object)
		iommufd_refuse_id(what);
	return object;
}

void iommufd_put(struct iommufd *iommufd, struct iommufd_object *object)
{
	pthread_mutex_lock(&iommufd->lock);
	iommufd_unhold(iommufd, object);
	pthread_mutex_unlock(&iommufd->lock);
}

void iommufd_hold(struct iommufd *iommufd, struct iommufd_object *object)
{
	object->held++;
	iommufd->held++;
}

void iommufd_unhold(struct iommufd *iommufd, struct iommufd_object *object)
{
	iommufd->held--;
	if (!--object->held)
		pthread_cond_broadcast(&iommufd->idle);
}

/* Make it ours alone: not to be found any more, unless something rests on it. */
static int claim(struct iommufd *iommufd, struct iommufd_object *object)
{
	object->ready = object->users;
	/* A request that holds it may be putting something on it. */
	while (object->held && !object->users)
		pthread_cond_wait(&iommufd->idle, &iommufd->lock);
	object->ready = object->users;
	if (!object->users)
		return 0;
	return vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY,
			   "the object is used by another, or by a device");
}

static int destroy(struct iommufd_call *call)
{
	struct iommufd *iommufd = call->iommufd;
	uint32_t id = call->destroy.id;
	struct iommufd_object *object;
	int ret = 0;

	pthread_mutex_lock(&iommufd->lock);
	object = id && id <= iommufd->room ? iommufd->objects[id - 1] : NULL;
	if (!object || !object->ready)
		ret = iommufd_refuse_id("id: no such object");
	else
		ret = claim(iommufd, object);
	if (!ret) {
		if (iommufd->compat && &iommufd->compat->obj == object)
			iommufd->compat = NULL;
		iommufd_object_remove(iommufd, object);
	}
	pthread_mutex_unlock(&iommufd->lock);
	return ret;
}

/* ---- life ---- */

struct iommufd *iommufd_create(struct uiommu_vfio *vfio)
{
	struct iommufd *iommufd = uiommu_alloc(sizeof(*iommufd));

	if (!iommufd) {
		vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
		return NULL;
	}
	iommufd->vfio = vfio;
	iommufd->refs = 1;
	iommufd->number = vfio->next_iommufd++;
	pthread_mutex_init(&iommufd->lock, NULL);
	pthread_mutex_init(&iommufd->files_lock, NULL);
	iommufd->files.steady = true; /* its counts go down without memory */
	pthread_cond_init(&iommufd->idle, NULL);
	iommufd->next = vfio->iommufds;
	vfio->iommufds = iommufd;
	return iommufd;
}

void iommufd_get_ref(struct iommufd *iommufd)
{
	iommufd->refs++;
}

/* Nobody has a descriptor of it, and no request is under way. Objects rest on others only in one
 * direction, so there is always one that nothing rests on. */
static void destroy_objects(struct iommufd *iommufd)
{
	bool any;

	pthread_mutex_lock(&iommufd->lock);
	iommufd->compat = NULL;
	do {
		any = false;
		for (size_t i = iommufd->room; i--;) {
			struct iommufd_object *object = iommufd->objects[i];

			if (object && !object->users) {
				iommufd_object_remove(iommufd, object);
				any = true;
			}
		}
	} while (any);
	pthread_mutex_unlock(&iommufd->lock);
}

void iommufd_put_ref(struct iommufd *iommufd)
{
	struct iommufd **link = &iommufd->vfio->iommufds;

	if (--iommufd->refs)
		return;
	while (*link != iommufd)
		link = &(*link)->next;
	*link = iommufd->next;
	destroy_objects(iommufd);
	uiommu_free(iommufd->objects, iommufd->room * sizeof(*iommufd->objects));
	imap_clear(&iommufd->files);
	pthread_cond_destroy(&iommufd->idle);
	pthread_mutex_destroy(&iommufd->files_lock);
	pthread_mutex_destroy(&iommufd->lock);
	uiommu_free(iommufd, sizeof(*iommufd));
}

/* Leaf locks of the objects, in the order of their numbers. */
static void each_leaf(struct iommufd *iommufd, int (*mutex)(pthread_mutex_t *),
		      void (*queue)(struct iommufd_queue *))
{
	for (size_t i = 0; i < iommufd->room; i++) {
		struct iommufd_object *object = iommufd->objects[i];

		if (object && object->type == IOMMUFD_VIOMMU)
			mutex(&((struct iommufd_viommu *)object)->leaf);
	}
	for (size_t i = 0; i < iommufd->room; i++) {
		struct iommufd_object *object = iommufd->objects[i];

		if (object &&
		    (object->type == IOMMUFD_VEVENT_QUEUE || object->type == IOMMUFD_FAULT_QUEUE))
			queue((struct iommufd_queue *)object);
	}
}

void iommufd_fork_prepare(struct iommufd *iommufd)
{
	pthread_mutex_lock(&iommufd->lock);
	/* Requests that hold an object run without the lock. */
	while (iommufd->held)
		pthread_cond_wait(&iommufd->idle, &iommufd->lock);
	pthread_mutex_lock(&iommufd->files_lock);
	each_leaf(iommufd, pthread_mutex_lock, iommufd_queue_lock);
}

void iommufd_fork_done(struct iommufd *iommufd)
{
	each_leaf(iommufd, pthread_mutex_unlock, iommufd_queue_unlock);
	pthread_mutex_unlock(&iommufd->files_lock);
	pthread_mutex_unlock(&iommufd->lock);
}

/* ---- IOMMU_OPTION ---- */

/* Of the process, as the kernel asks for it: without libcap, one system call. */
static bool may_set_resources(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};

	return !syscall(SYS_capget, &head, data) &&
	       (data[CAP_TO_INDEX(CAP_SYS_RESOURCE)].effective & CAP_TO_MASK(CAP_SYS_RESOURCE));
}

static bool has_objects(const struct iommufd *iommufd)
{
	for (size_t i = 0; i < iommufd->room; i++)
		if (iommufd->objects[i])
			return true;
	return false;
}

static int set_rlimit_mode(struct iommufd *iommufd, uint64_t value)
{
	int ret = 0;

	if (!may_set_resources())
		return vfio_refuse(UIOMMU_RULE_CAPABILITY, -EPERM, "CAP_SYS_RESOURCE");
	pthread_mutex_lock(&iommufd->lock);
	if (has_objects(iommufd))
		ret = vfio_refuse(UIOMMU_RULE_ORDER, -EBUSY, "there are objects already");
	else if (value > 1)
		ret = vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				  "val64: 0 (by user) or 1 (by process)");
	else
		iommufd->process_accounting = value;
	pthread_mutex_unlock(&iommufd->lock);
	return ret;
}

static int rlimit_mode(struct iommufd_call *call)
{
	if (call->option.object_id)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "object_id: must be 0");
	switch (call->option.op) {
	case IOMMU_OPTION_OP_GET:
		pthread_mutex_lock(&call->iommufd->lock);
		call->option.val64 = call->iommufd->process_accounting;
		pthread_mutex_unlock(&call->iommufd->lock);
		return 0;
	case IOMMU_OPTION_OP_SET:
		return set_rlimit_mode(call->iommufd, call->option.val64);
	default:
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "op: neither SET nor GET");
	}
}

static int option(struct iommufd_call *call)
{
	const size_t at = offsetof(struct iommu_option, val64);
	int ret;

	if (call->option.__reserved)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "__reserved: must be 0");
	switch (call->option.option_id) {
	case IOMMU_OPTION_RLIMIT_MODE:
		ret = rlimit_mode(call);
		break;
	case IOMMU_OPTION_HUGE_PAGES:
		ret = iommufd_ioas_option(call);
		break;
	default:
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EOPNOTSUPP, "option_id");
	}
	if (ret || call->option.op != IOMMU_OPTION_OP_GET)
		return ret;
	return vfio_copy_out(call->vfio, call->arg + at, &call->option.val64, sizeof(uint64_t));
}

/* ---- dispatch ---- */

struct iommufd_op {
	uint32_t request;
	size_t size, least; /* of the struct now, and in its first version */
	int (*op)(struct iommufd_call *call);
	const char *name;
};

/* In the order of their numbers. */
#define OP(number, what, type, last, fn)              \
	[IOMMUFD_CMD_##number - IOMMUFD_CMD_BASE] = { \
		what, sizeof(struct type),            \
		offsetof(struct type, last) + sizeof(((struct type *)NULL)->last), fn, #what}

static const struct iommufd_op ops[] = {
	OP(DESTROY, IOMMU_DESTROY, iommu_destroy, id, destroy),
	OP(IOAS_ALLOC, IOMMU_IOAS_ALLOC, iommu_ioas_alloc, out_ioas_id, iommufd_ioas_alloc),
	OP(IOAS_ALLOW_IOVAS, IOMMU_IOAS_ALLOW_IOVAS, iommu_ioas_allow_iovas, allowed_iovas,
	   iommufd_ioas_allow_iovas),
	OP(IOAS_COPY, IOMMU_IOAS_COPY, iommu_ioas_copy, src_iova, iommufd_ioas_copy),
	OP(IOAS_IOVA_RANGES, IOMMU_IOAS_IOVA_RANGES, iommu_ioas_iova_ranges, out_iova_alignment,
	   iommufd_ioas_iova_ranges),
	OP(IOAS_MAP, IOMMU_IOAS_MAP, iommu_ioas_map, iova, iommufd_ioas_map),
	OP(IOAS_UNMAP, IOMMU_IOAS_UNMAP, iommu_ioas_unmap, length, iommufd_ioas_unmap),
	OP(OPTION, IOMMU_OPTION, iommu_option, val64, option),
	OP(VFIO_IOAS, IOMMU_VFIO_IOAS, iommu_vfio_ioas, __reserved, iommufd_vfio_ioas),
	OP(HWPT_ALLOC, IOMMU_HWPT_ALLOC, iommu_hwpt_alloc, __reserved, iommufd_hwpt_alloc),
	OP(GET_HW_INFO, IOMMU_GET_HW_INFO, iommu_hw_info, __reserved, iommufd_get_hw_info),
	OP(HWPT_SET_DIRTY_TRACKING, IOMMU_HWPT_SET_DIRTY_TRACKING, iommu_hwpt_set_dirty_tracking,
	   __reserved, iommufd_hwpt_set_dirty_tracking),
	OP(HWPT_GET_DIRTY_BITMAP, IOMMU_HWPT_GET_DIRTY_BITMAP, iommu_hwpt_get_dirty_bitmap, data,
	   iommufd_hwpt_get_dirty_bitmap),
	OP(HWPT_INVALIDATE, IOMMU_HWPT_INVALIDATE, iommu_hwpt_invalidate, __reserved,
	   iommufd_hwpt_invalidate),
	OP(FAULT_QUEUE_ALLOC, IOMMU_FAULT_QUEUE_ALLOC, iommu_fault_alloc, out_fault_fd,
	   iommufd_fault_alloc),
	OP(IOAS_MAP_FILE, IOMMU_IOAS_MAP_FILE, iommu_ioas_map_file, iova, iommufd_ioas_map_file),
	OP(VIOMMU_ALLOC, IOMMU_VIOMMU_ALLOC, iommu_viommu_alloc, out_viommu_id,
	   iommufd_viommu_alloc),
	OP(VDEVICE_ALLOC, IOMMU_VDEVICE_ALLOC, iommu_vdevice_alloc, virt_id, iommufd_vdevice_alloc),
	OP(VEVENTQ_ALLOC, IOMMU_VEVENTQ_ALLOC, iommu_veventq_alloc, out_veventq_fd,
	   iommufd_veventq_alloc),
	OP(HW_QUEUE_ALLOC, IOMMU_HW_QUEUE_ALLOC, iommu_hw_queue_alloc, length,
	   iommufd_hw_queue_alloc),
	OP(IOAS_CHANGE_PROCESS, IOMMU_IOAS_CHANGE_PROCESS, iommu_ioas_change_process, __reserved,
	   iommufd_ioas_change_process),
};

/* Of the kernel's selftests; on request. */
static const struct iommufd_op test_op = {IOMMU_TEST_CMD, sizeof(struct iommu_test_cmd),
					  offsetof(struct iommu_test_cmd, last) + sizeof(uint32_t),
					  iommufd_test, "IOMMU_TEST_CMD"};

int iommufd_respond(const struct iommufd_call *call)
{
	return vfio_copy_out(call->vfio, call->arg, call->bytes,
			     call->user_size < call->size ? call->user_size : call->size);
}

static int take_struct(struct iommufd_call *call, const struct iommufd_op *op, uint32_t request)
{
	int ret = vfio_copy_in(call->vfio, &call->user_size, call->arg, sizeof(call->user_size));

	if (ret)
		return ret;
	if (op->request != request)
		return -ENOTTY;
	if (call->user_size < op->least)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "size: smaller than the first version of the struct");
	call->size = op->size;
	return vfio_copy_struct(call->vfio, call->bytes, op->size, call->arg, call->user_size);
}

static long run(struct iommufd *iommufd, const struct iommufd_op *op, uint32_t request,
		uint64_t arg)
{
	struct iommufd_call call = {.iommufd = iommufd, .vfio = iommufd->vfio, .arg = arg};
	int ret = take_struct(&call, op, request);

	if (!ret)
		ret = op->op(&call);
	if (!call.made)
		return ret;
	pthread_mutex_lock(&iommufd->lock);
	/* A queue whose file is out, though its number could not be told, goes after the file. */
	if (ret && !call.made->users)
		iommufd_object_remove(iommufd, call.made);
	else
		iommufd_object_finish(call.made);
	pthread_mutex_unlock(&iommufd->lock);
	return ret;
}

long iommufd_ioctl(struct iommufd *iommufd, uint32_t request, uint64_t arg)
{
	unsigned number = _IOC_NR(request) - IOMMUFD_CMD_BASE;

	if (_IOC_NR(request) == IOMMUFD_CMD_TEST && iommufd->vfio->mock)
		return run(iommufd, &test_op, request, arg);
	if (number < sizeof(ops) / sizeof(ops[0]) && ops[number].op)
		return run(iommufd, &ops[number], request, arg);
	return iommufd_compat_ioctl(iommufd, request, arg);
}

const char *iommufd_request_name(uint32_t request)
{
	unsigned number = _IOC_NR(request) - IOMMUFD_CMD_BASE;

	if (request == IOMMU_TEST_CMD)
		return test_op.name;
	return number < sizeof(ops) / sizeof(ops[0]) ? ops[number].name : NULL;
}

void iommufd_each_ioas(struct iommufd *iommufd,
		       void (*each)(void *ctx, struct uiommu_ioas *ioas, const char *name),
		       void *ctx)
{
	char name[48];

	pthread_mutex_lock(&iommufd->lock);
	for (size_t i = 0; i < iommufd->room; i++) {
		struct iommufd_object *object = iommufd->objects[i];

		if (!object || !object->ready || object->type != IOMMUFD_IOAS)
			continue;
		snprintf(name, sizeof(name), "iommufd %u, IOAS %u", iommufd->number, object->id);
		each(ctx, ((struct iommufd_ioas *)object)->ioas, name);
	}
	pthread_mutex_unlock(&iommufd->lock);
}
