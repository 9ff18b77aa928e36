/* SPDX-License-Identifier: MIT */
/* The rig: see abi_test.h. */
#include "abi_test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

/* ---- the host ---- */

static bool is_bad(const struct rig *rig, const void *ptr, size_t len)
{
	uintptr_t first = (uintptr_t)ptr, last = first + len - 1;

	if (first < 4096 || last < first || last >> 47)
		return true;
	return rig->bad_last && first <= rig->bad_last && rig->bad_first <= last;
}

static int copy_in(void *ctx, void *to, const void *from, size_t len)
{
	struct rig *rig = ctx;

	if (is_bad(rig, from, len))
		return -EFAULT;
	memcpy(to, from, len);
	rig->copies_in++;
	if (rig->race)
		rig->race(rig, from, len);
	return 0;
}

static int copy_out(void *ctx, void *to, const void *from, size_t len)
{
	if (is_bad(ctx, to, len))
		return -EFAULT;
	memcpy(to, from, len);
	return 0;
}

struct uiommu_vfio_file *rig_file(struct rig *rig, int fd)
{
	return fd >= RIG_FD && fd < RIG_FD + RIG_FILES ? rig->files[fd - RIG_FD] : NULL;
}

static struct uiommu_vfio_file *file_of(void *ctx, int fd)
{
	return rig_file(ctx, fd);
}

int rig_install(struct rig *rig, struct uiommu_vfio_file *file)
{
	if (rig->no_descriptors)
		return -EMFILE;
	for (int i = 0; i < RIG_FILES; i++) {
		struct uiommu_vfio_file *none = NULL;

		if (atomic_compare_exchange_strong(&rig->files[i], &none, file))
			return RIG_FD + i;
	}
	return -EMFILE;
}

static int install(void *ctx, struct uiommu_vfio_file *file)
{
	struct rig *rig = ctx;
	int fd = rig_install(rig, file);

	if (fd >= 0 && rig->installed)
		rig->installed(rig, fd);
	return fd;
}

static int eventfd_get(void *ctx, int fd)
{
	struct rig *rig = ctx;
	char link[64], target[64] = "";
	int own;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (readlink(link, target, sizeof(target) - 1) < 0)
		return -EBADF;
	if (!strstr(target, "eventfd"))
		return -EINVAL;
	own = dup(fd);
	if (own >= 0)
		rig->eventfds++;
	return own;
}

static void eventfd_put(void *ctx, int fd)
{
	((struct rig *)ctx)->eventfds--;
	close(fd);
}

static void refused(void *ctx, const char *what, const struct uiommu_refusal *refusal)
{
	struct rig *rig = ctx;

	pthread_mutex_lock(&rig->refused_lock);
	snprintf(rig->refused_what, sizeof(rig->refused_what), "%s", what);
	rig->refused = *refusal;
	pthread_mutex_unlock(&rig->refused_lock);
}

static void log_line(void *ctx, const char *line)
{
	struct rig *rig = ctx;

	pthread_mutex_lock(&rig->refused_lock);
	snprintf(rig->logged, sizeof(rig->logged), "%s", line);
	rig->logs++;
	pthread_mutex_unlock(&rig->refused_lock);
}

static void thread_start(void *ctx)
{
	((struct rig *)ctx)->threads++;
}

/* ---- memory ---- */

static int memory_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	return uiommu_memory_self.ops->read(NULL, addr, buf, len);
}

static int memory_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	return uiommu_memory_self.ops->write(NULL, addr, buf, len);
}

static int memory_check(void *ctx, uint64_t addr, uint64_t len, int prot)
{
	struct rig *rig = ctx;
	uint64_t first = (uintptr_t)rig->memory, size = RIG_PAGES * PAGE;

	if (rig->any_memory)
		return 0;
	if (addr >= rig->file_first && addr <= rig->file_last)
		return len <= rig->file_last - addr + 1 ? 0 : -EFAULT;
	if (prot & UIOMMU_WRITE)
		size /= 2;
	return addr >= first && addr - first <= size && len <= size - (addr - first) ? 0 : -EFAULT;
}

static const struct uiommu_memory_ops memory_ops = {
	.size = sizeof(struct uiommu_memory_ops),
	.read = memory_read,
	.write = memory_write,
	.check = memory_check,
};

static void fault(void *ctx, const struct uiommu_fault *f)
{
	struct rig *rig = ctx;

	pthread_mutex_lock(&rig->refused_lock);
	rig->last_fault = *f;
	pthread_mutex_unlock(&rig->refused_lock);
	rig->faults++;
}

struct uiommu_fault rig_fault(struct rig *rig, uint64_t faults)
{
	struct uiommu_fault last;

	for (unsigned i = 0; i < 10000 && rig->faults < faults; i++)
		usleep(1000);
	assert_true(rig->faults >= faults);
	pthread_mutex_lock(&rig->refused_lock);
	last = rig->last_fault;
	pthread_mutex_unlock(&rig->refused_lock);
	return last;
}

static int map_file(void *ctx, int fd, uint64_t offset, uint64_t length, bool write, uint64_t *addr)
{
	struct rig *rig = ctx;
	void *at = mmap(NULL, length, PROT_READ | (write ? PROT_WRITE : 0), MAP_SHARED, fd,
			(off_t)offset);

	if (at == MAP_FAILED)
		return -errno;
	*addr = rig->file_first = (uintptr_t)at;
	rig->file_last = (uintptr_t)at + length - 1;
	rig->files_mapped++;
	return 0;
}

static void unmap_file(void *ctx, uint64_t addr, uint64_t length)
{
	munmap((void *)(uintptr_t)addr, length);
	((struct rig *)ctx)->files_mapped--;
}

static void queue_readable(void *ctx, struct uiommu_vfio_file *file, bool readable)
{
	((struct rig *)ctx)->readable = readable;
}

static int doorbell_at(void *ctx, uint64_t vaddr, uint64_t len, uint64_t *doorbell)
{
	const struct rig *rig = ctx;

	if (!rig->doorbell_page || vaddr > rig->doorbell_page + (PAGE - 1) ||
	    vaddr + (len - 1) < rig->doorbell_page)
		return 0;
	*doorbell = rig->doorbell;
	return vaddr == rig->doorbell_page && len == PAGE ? 1 : -EINVAL;
}

/* ---- up and down ---- */

static bool make_machine(struct rig *rig, const struct rig_options *options)
{
	static const char *const usual[] = {"edu@00:01.0,group=0", "ioat@00:02.0,group=1", NULL};
	const char *const *spec = options && options->functions ? options->functions : usual;
	struct uiommu_memory memory = {&memory_ops, rig};
	struct uiommu_machine_options machine = {
		.size = sizeof(machine),
		.platform = options ? options->platform : NULL,
		.memory = &memory,
		.fault = fault,
		.fault_ctx = rig,
	};
	char why[256];

	if (uiommu_machine_create(&machine, &rig->machine, why, sizeof(why)))
		return false;
	for (; *spec; spec++)
		if (uiommu_machine_add(rig->machine, *spec, why, sizeof(why)))
			return false;
	return !options || !options->model ||
	       !uiommu_machine_add_model(rig->machine, options->model, options->model_spec, why,
					 sizeof(why));
}

/* As some IOMMUs want it, at a multiple of its size. */
static uint8_t *map_aligned(void)
{
	const size_t size = RIG_PAGES * PAGE;
	uint8_t *memory =
		mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t before = -(uintptr_t)memory & (size - 1);

	assert_ptr_not_equal(memory, MAP_FAILED);
	if (before)
		munmap(memory, before);
	munmap(memory + before + size, size - before);
	return memory + before;
}

bool rig_up(struct rig *rig, const struct rig_options *options)
{
	struct uiommu_vfio_options vfio = {
		.size = sizeof(vfio),
		.host =
			{
				.size = sizeof(vfio.host),
				.copy_in = copy_in,
				.copy_out = copy_out,
				.file_of = file_of,
				.install = install,
				.eventfd_get = eventfd_get,
				.eventfd_put = eventfd_put,
				.doorbell_at = doorbell_at,
				.map_file = map_file,
				.unmap_file = unmap_file,
				.queue_readable = queue_readable,
				.refused = refused,
				.log = log_line,
				.thread_start = thread_start,
				.ctx = rig,
			},
		.dma_entry_limit = options ? options->dma_entry_limit : 0,
		.memlock = options && options->memlock,
		.iommufd_rfc = options && options->iommufd_rfc,
		.iommufd_test = options && options->iommufd_test,
	};

	memset(rig, 0, sizeof(*rig));
	pthread_mutex_init(&rig->refused_lock, NULL);
	rig->memory = map_aligned();
	if (make_machine(rig, options) && !uiommu_vfio_create(rig->machine, &vfio, &rig->vfio))
		return true;
	rig_down(rig);
	return false;
}

void rig_down(struct rig *rig)
{
	uiommu_vfio_destroy(rig->vfio);
	uiommu_machine_destroy(rig->machine);
	munmap(rig->memory, RIG_PAGES * PAGE);
	rig->vfio = NULL;
	rig->machine = NULL;
}

/* ---- descriptors ---- */

void rig_close(struct rig *rig, int fd)
{
	struct uiommu_vfio_file *file = rig_file(rig, fd);

	assert_non_null(file);
	rig->files[fd - RIG_FD] = NULL;
	uiommu_vfio_release(file);
}

int rig_open_container(struct rig *rig)
{
	struct uiommu_vfio_file *file;
	int ret = uiommu_vfio_open_container(rig->vfio, &file);

	return ret ? ret : rig_install(rig, file);
}

int rig_open_group(struct rig *rig, unsigned number)
{
	struct uiommu_vfio_file *file;
	int ret = uiommu_vfio_open_group(rig->vfio, number, &file);

	return ret ? ret : rig_install(rig, file);
}

int rig_open_iommufd(struct rig *rig)
{
	struct uiommu_vfio_file *file;
	int ret = uiommu_vfio_open_iommufd(rig->vfio, &file);

	return ret ? ret : rig_install(rig, file);
}

int rig_open_node(struct rig *rig, unsigned number)
{
	struct uiommu_vfio_file *file;
	int ret = uiommu_vfio_open_node(rig->vfio, number, &file);

	return ret ? ret : rig_install(rig, file);
}

long rig_ioctl_value(struct rig *rig, int fd, unsigned long request, unsigned long value)
{
	struct uiommu_vfio_file *file = rig_file(rig, fd);

	assert_non_null(file);
	return uiommu_vfio_ioctl(file, request, value);
}

long rig_ioctl(struct rig *rig, int fd, unsigned long request, const void *arg)
{
	return rig_ioctl_value(rig, fd, request, (uintptr_t)arg);
}

struct session rig_session(struct rig *rig, unsigned group, unsigned long type, const char *name)
{
	struct session s = {rig_open_container(rig), rig_open_group(rig, group), -1};

	assert_true(s.container >= 0 && s.group >= 0);
	assert_int_equal(rig_ioctl(rig, s.group, VFIO_GROUP_SET_CONTAINER, &s.container), 0);
	assert_int_equal(rig_ioctl_value(rig, s.container, VFIO_SET_IOMMU, type), 0);
	if (name) {
		s.device = rig_ioctl(rig, s.group, VFIO_GROUP_GET_DEVICE_FD, name);
		assert_true(s.device >= 0);
	}
	return s;
}

void session_close(struct rig *rig, struct session *s)
{
	if (s->device >= 0)
		rig_close(rig, s->device);
	rig_close(rig, s->group);
	rig_close(rig, s->container);
}

/* ---- requests ---- */

long rig_map(struct rig *rig, int container, uint32_t flags, uint64_t iova, uint64_t size,
	     const void *vaddr)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = flags,
		.vaddr = (uintptr_t)vaddr,
		.iova = iova,
		.size = size,
	};

	return rig_ioctl(rig, container, VFIO_IOMMU_MAP_DMA, &map);
}

long rig_unmap(struct rig *rig, int container, uint32_t flags, uint64_t iova, uint64_t *size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.flags = flags,
		.iova = iova,
		.size = *size,
	};
	long ret = rig_ioctl(rig, container, VFIO_IOMMU_UNMAP_DMA, &unmap);

	*size = unmap.size;
	return ret;
}

static uint64_t region(unsigned index, uint64_t offset)
{
	return ((uint64_t)index << 40) + offset;
}

static uint32_t read_at(struct rig *rig, int device, uint64_t offset, unsigned len)
{
	uint32_t value = 0;

	assert_int_equal(uiommu_vfio_pread(rig_file(rig, device), &value, len, offset), len);
	return value;
}

static void write_at(struct rig *rig, int device, uint64_t offset, unsigned len, uint32_t value)
{
	assert_int_equal(uiommu_vfio_pwrite(rig_file(rig, device), &value, len, offset), len);
}

uint32_t rig_config(struct rig *rig, int device, unsigned offset, unsigned len)
{
	return read_at(rig, device, region(VFIO_PCI_CONFIG_REGION_INDEX, offset), len);
}

void rig_config_set(struct rig *rig, int device, unsigned offset, unsigned len, uint32_t value)
{
	write_at(rig, device, region(VFIO_PCI_CONFIG_REGION_INDEX, offset), len, value);
}

uint32_t rig_reg(struct rig *rig, int device, unsigned bar, uint64_t offset)
{
	return read_at(rig, device, region(bar, offset), 4);
}

void rig_reg_set(struct rig *rig, int device, unsigned bar, uint64_t offset, uint32_t value)
{
	write_at(rig, device, region(bar, offset), 4, value);
}

long rig_irqs(struct rig *rig, int device, uint32_t flags, uint32_t index, uint32_t start,
	      uint32_t count, const void *data)
{
	union {
		struct vfio_irq_set set;
		uint8_t bytes[sizeof(struct vfio_irq_set) + 4 * 64];
	} arg = {0};
	size_t size = 0;

	if (flags & VFIO_IRQ_SET_DATA_BOOL)
		size = count;
	else if (flags & VFIO_IRQ_SET_DATA_EVENTFD)
		size = 4 * (size_t)count;
	assert_true(size <= 4 * 64);
	arg.set.argsz = sizeof(arg.set) + size;
	arg.set.flags = flags;
	arg.set.index = index;
	arg.set.start = start;
	arg.set.count = count;
	if (size)
		memcpy(arg.bytes + sizeof(arg.set), data, size);
	return rig_ioctl(rig, device, VFIO_DEVICE_SET_IRQS, &arg);
}

uint64_t rig_wait(int eventfd, int ms)
{
	struct pollfd ready = {.fd = eventfd, .events = POLLIN};
	uint64_t count = 0;

	if (poll(&ready, 1, ms) == 1 && read(eventfd, &count, sizeof(count)) != sizeof(count))
		return 0;
	return count;
}
