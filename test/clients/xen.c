/* SPDX-License-Identifier: MIT */
/*
 * xen - a program of domain 0: privcmd's own errors, memory reservations, and each flavour of the
 * paravirtual IOMMU with a device behind it. The argument is the flavour that the platform was
 * given.
 */
#include "client.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <uiommu/xen.h>

#define SELF   UIOMMU_XEN_DOMID_SELF
#define GFNS   32768ul /* 128 MiB each, as the test is run */
#define OFFSET 0x3e00000ul

enum { EDU_ACK = 0x64, EDU_SRC = 0x80, EDU_DST = 0x88, EDU_COUNT = 0x90, EDU_CMD = 0x98 };
enum { EDU_START = 1, EDU_TO_MEMORY = 2, EDU_RAISE = 4, EDU_BUFFER = 0x40000 };

struct hypercall {
	uint64_t op, arg[5];
};

struct batch {
	unsigned num;
	uint16_t dom;
	uint64_t addr;
	const uint64_t *arr;
	int *err;
};

#define HYPERCALL _IOC(_IOC_NONE, 'P', 0, sizeof(struct hypercall))
#define MMAPBATCH _IOC(_IOC_NONE, 'P', 4, sizeof(struct batch))

static int privcmd;
static struct client device;
static volatile uint8_t *bar;
static int irq;

static int hyper(uint64_t op, uint64_t arg0, uint64_t arg1, uint64_t arg2)
{
	struct hypercall h = {op, {arg0, arg1, arg2}};
	int ret = ioctl(privcmd, HYPERCALL, &h);

	return ret < 0 ? -errno : ret;
}

static uint64_t address(const volatile void *p)
{
	return (uintptr_t)p;
}

static int map_frames(void *at, unsigned count, uint16_t dom, const uint64_t *gfns, int *errors)
{
	struct batch b = {count, dom, address(at), gfns, errors};

	return ioctl(privcmd, MMAPBATCH, &b) ? -errno : 0;
}

static uint8_t *frames(uint64_t gfn, uint16_t dom)
{
	int error = 1;
	void *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, privcmd, 0);

	REQUIRE(at != MAP_FAILED);
	CHECK_EQ(map_frames(at, 1, dom, &gfn, &error), 0);
	CHECK_EQ(error, 0);
	return at;
}

static void check_privcmd(void)
{
	uint64_t gfns[4] = {0, 513, 514, GFNS};
	int errors[4], other = -1;
	char link[64], name[64], *at;
	struct stat st;

	CHECK_EQ(fstat(privcmd, &st), 0);
	CHECK(S_ISCHR(st.st_mode));
	snprintf(link, sizeof(link), "/proc/self/fd/%d", privcmd);
	memset(errors, 0x77, sizeof(errors));
	CHECK(readlink(link, name, sizeof(name)) == 16 && !memcmp(name, "/dev/xen/privcmd", 16));
	CHECK(read(privcmd, errors, 4) == -1 && errno == EINVAL);
	CHECK(ioctl(privcmd, HYPERCALL, NULL) == -1 && errno == EFAULT);
	CHECK(ioctl(privcmd, _IOC(_IOC_NONE, 'P', 99, 8), NULL) == -1 && errno == ENOTTY);
	CHECK(ioctl(privcmd, VFIO_GET_API_VERSION) == -1 && errno == ENOTTY);
	CHECK_EQ(hyper(1000, 0, 0, 0), -ENOSYS);

	at = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, privcmd, 0);
	REQUIRE(at != MAP_FAILED);
	CHECK_EQ(map_frames(at, 4, SELF, gfns, errors), 0);
	CHECK_EQ(errors[0], 0);
	CHECK_EQ(errors[2], 0);
	CHECK_EQ(errors[3], -EINVAL); /* no such frame */
	memset(at, 0x11, 3 * PAGE);
	/* The same memory by another mapping, and by the domain's number. */
	CHECK_EQ(frames(514, 0)[5], 0x11);
	CHECK_EQ(map_frames(at, 0, SELF, gfns, errors), -EINVAL);
	CHECK_EQ(map_frames(at + 1, 1, SELF, gfns, errors), -EINVAL);
	CHECK_EQ(map_frames(at, 5, SELF, gfns, errors), -EINVAL); /* more than was mapped */
	CHECK_EQ(map_frames(&other, 1, SELF, gfns, errors), -EINVAL);
	CHECK_EQ(map_frames(at, 1, SELF, NULL, errors), -EFAULT);
	CHECK_EQ(map_frames(at, 1, SELF, gfns, NULL), -EFAULT);
	CHECK_EQ(map_frames(at, 1, 77, gfns, errors), 0);
	CHECK_EQ(errors[0], -EINVAL);
	CHECK_EQ(munmap(at, 4 * PAGE), 0);
	CHECK_EQ(map_frames(at, 1, SELF, gfns, errors), -EINVAL); /* it is gone */
}

struct reservation {
	uint64_t extents, count;
	uint32_t order, flags;
	uint16_t domid;
};

static void check_memory(bool guest)
{
	uint16_t self = SELF, one = 1, two = 2;
	uint64_t gfns[3] = {20, 21, GFNS};
	struct reservation r = {address(gfns), 3, 0, 0, SELF};
	uint8_t *before = frames(20, SELF);

	CHECK_EQ(hyper(12, 3, address(&self), 0), (int)GFNS);
	CHECK_EQ(hyper(12, 4, address(&self), 0), (int)GFNS);
	CHECK_EQ(hyper(12, 3, address(&one), 0), guest ? (int)GFNS : -ESRCH);
	CHECK_EQ(hyper(12, 3, address(&two), 0), -ESRCH);
	CHECK_EQ(hyper(12, 3, 0, 0), -EFAULT);
	CHECK_EQ(hyper(12, 2, 0, 0), (int)(GFNS * (guest ? 2 : 1) - 1));
	CHECK_EQ(hyper(12, 99, 0, 0), -ENOSYS);
	CHECK_EQ(hyper(12, 1, 0, 0), -EFAULT);
	before[0] = 0x99;
	CHECK_EQ(hyper(12, 1, address(&r), 0), 2); /* as far as there are frames */
	CHECK_EQ(hyper(12, 3, address(&self), 0), (int)GFNS - 2);
	CHECK_EQ(hyper(12, 1, address(&r), 0), 0);
	CHECK_EQ(hyper(12, 6, address(&r), 0), 2);
	CHECK_EQ(hyper(12, 6, address(&r), 0), 0);
	CHECK_EQ(hyper(12, 3, address(&self), 0), (int)GFNS);
	CHECK_EQ(frames(20, SELF)[0], 0); /* another frame, or the same with nothing in it */
	munmap(before, PAGE);
}

/* ---- the device ---- */

static void open_device(void)
{
	const uint32_t trigger = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	char number[32];

	client_find(&device, 0x1234, 0x11e8, 0);
	snprintf(number, sizeof(number), "%.30s", strrchr(device.group_path, '/') + 1);
	snprintf(device.group_path, sizeof(device.group_path), "/dev/vfio/noiommu-%s", number);
	client_open(&device, VFIO_NOIOMMU_IOMMU);
	CHECK_EQ(call_value(device.container, VFIO_IOMMU_MAP_DMA, 0), -ENOTTY);
	client_open_device(&device);
	client_command(device.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	bar = client_bar(device.device);
	irq = client_eventfd();
	CHECK_EQ(client_irqs(device.device, trigger, VFIO_PCI_MSI_IRQ_INDEX, 0, 1, &irq), 0);
}

/* Does what the device writes to a bus frame arrive in this page? Its buffer holds zeros. */
static bool arrives(uint64_t bfn, volatile uint8_t *page)
{
	page[0] = 0xee;
	REG(bar, uint64_t, EDU_SRC) = EDU_BUFFER;
	REG(bar, uint64_t, EDU_DST) = bfn * PAGE;
	REG(bar, uint64_t, EDU_COUNT) = 64;
	REG(bar, uint64_t, EDU_CMD) = EDU_START | EDU_RAISE | EDU_TO_MEMORY;
	CHECK_EQ(client_wait_event(irq), 1);
	REG(bar, uint32_t, EDU_ACK) = 0x100;
	return page[0] == 0;
}

/* ---- flavours ---- */

static void check_draft(void)
{
	struct uiommu_xen_draft_op op[2] = {{100, 200, 3, 9, 0}, {101, GFNS, 3, 9, 0}};
	volatile uint8_t *page = frames(200, SELF);
	const uint64_t gfn = 200;
	struct reservation r = {address(&gfn), 1, 0, 0, SELF};

	CHECK(!arrives(100, page));
	CHECK_EQ(hyper(40, 1, address(op), 2), 0);
	CHECK_EQ(op[0].status, 0);
	CHECK_EQ(op[1].status, UIOMMU_XEN_DRAFT_BAD_PAGE);
	CHECK(arrives(100, page));
	/* The frame is given back while it is mapped: it stays until it is unmapped. */
	CHECK_EQ(hyper(12, 1, address(&r), 0), 1);
	CHECK(arrives(100, page));
	op[0].flags = 0;
	CHECK_EQ(hyper(40, 2, address(op), 1), 0);
	CHECK_EQ(op[0].status, 0);
	CHECK(!arrives(100, page));
	CHECK_EQ(hyper(12, 6, address(&r), 0), 1);
	CHECK_EQ(hyper(40, 1, 1, 1), -EFAULT);
	CHECK_EQ(hyper(40, 3, 0, 0), -ENOSYS);
	CHECK_EQ(hyper(56, address(op), 1, 0), -ENOSYS);
	CHECK_EQ(hyper(43, 0, 0, 0), -ENOSYS);
}

static void check_server(void)
{
	struct uiommu_xen_server_op op[4] = {
		{.subop = UIOMMU_XEN_SERVER_QUERY_CAPS},
		{.subop = UIOMMU_XEN_SERVER_MAP, .flags = 3, .u.map = {100, 200}},
		{.subop = UIOMMU_XEN_SERVER_MAP_FOREIGN,
		 .flags = 3,
		 .u.map_foreign = {102, 300, 1, 0}},
		{.subop = UIOMMU_XEN_SERVER_LOOKUP_FOREIGN, .u.lookup_foreign = {0, 301, 1, 0}},
	};
	volatile uint8_t *own = frames(200, SELF), *foreign = frames(300, 1);

	CHECK_EQ(hyper(56, address(op), 4, 0), 0);
	for (unsigned i = 0; i < 4; i++)
		CHECK_EQ(op[i].status, 0);
	CHECK_EQ(op[0].flags, 3);
	CHECK_EQ((int64_t)op[0].u.query_caps.offset, (int64_t)OFFSET);
	/* edu reaches 28 bits; the offset is beyond, but the lookup says where. */
	CHECK(op[3].u.lookup_foreign.bfn >= OFFSET);
	CHECK(arrives(100, own));
	CHECK(arrives(102, foreign));
	op[0] = (struct uiommu_xen_server_op){.subop = UIOMMU_XEN_SERVER_UNMAP, .u.unmap = {100}};
	op[1] = (struct uiommu_xen_server_op){
		.subop = UIOMMU_XEN_SERVER_MAP, .flags = 3, .u.map = {100, 201}};
	op[2] = (struct uiommu_xen_server_op){.subop = UIOMMU_XEN_SERVER_UNMAP_FOREIGN,
					      .u.unmap_foreign = {102, 0}};
	CHECK_EQ(hyper(56, address(op), 3, 0), 0);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(op[i].status, 0);
	CHECK(!arrives(100, own));
	CHECK(arrives(100, frames(201, SELF)));
	CHECK(!arrives(102, foreign));
	CHECK_EQ(hyper(56, address(op), 0x80000000, 0), -EINVAL);
	CHECK_EQ(hyper(40, 1, 0, 0), -ENOSYS);
}

static void check_contexts(void)
{
	struct uiommu_xen_init init = {.max_ctx_no = 4};
	struct uiommu_xen_alloc alloc = {0};
	struct uiommu_xen_reattach move = {.ctx_no = 1};
	struct uiommu_xen_map_pages map = {.ctx_no = 1,
					   .gfn = 200,
					   .dfn = 100,
					   .map_flags = 3,
					   .pgsize = 4096,
					   .nr_pages = 64};
	struct uiommu_xen_unmap_pages unmap = {
		.ctx_no = 1, .dfn = 100, .pgsize = 4096, .nr_pages = 64};
	struct uiommu_xen_free gone = {.ctx_no = 1, .free_flags = UIOMMU_XEN_FREE_REATTACH_DEFAULT};
	unsigned bus, dev, fn;
	volatile uint8_t *page = frames(263, SELF);

	REQUIRE(sscanf(device.bdf, "0000:%x:%x.%x", &bus, &dev, &fn) == 3);
	move.dev = (struct uiommu_xen_pci_device){0, (uint8_t)bus, (uint8_t)(dev << 3 | fn)};
	CHECK_EQ(hyper(43, UIOMMU_XEN_INIT, address(&init), 0), 0);
	CHECK_EQ(hyper(43, UIOMMU_XEN_ALLOC_CONTEXT, address(&alloc), 0), 0);
	CHECK_EQ(alloc.ctx_no, 1);
	CHECK_EQ(hyper(43, UIOMMU_XEN_MAP_PAGES, address(&map), 0), 0);
	CHECK_EQ(map.mapped, 64);
	CHECK(!arrives(163, page));
	CHECK_EQ(hyper(43, UIOMMU_XEN_REATTACH_DEVICE, address(&move), 0), 0);
	CHECK(arrives(163, page));
	CHECK_EQ(hyper(43, UIOMMU_XEN_UNMAP_PAGES, address(&unmap), 0), 0);
	CHECK_EQ(unmap.unmapped, 64);
	CHECK(!arrives(163, page));
	CHECK_EQ(hyper(43, UIOMMU_XEN_FREE_CONTEXT, address(&gone), 0), 0);
	CHECK_EQ(hyper(43, 9, 0, 0), -EOPNOTSUPP);
}

/* Off: the hypercall isn't there, and devices reach machine frames, by Xen's numbers. */
static void check_off(void)
{
	struct uiommu_xen_draft_op op = {100, 200, 3, 9, 0};
	volatile uint8_t *page = frames(200, SELF);

	CHECK_EQ(hyper(40, 1, address(&op), 1), -ENOSYS);
	CHECK_EQ(op.status, 9);
	CHECK(!arrives(200, page));
	/* The first 2 MiB of a domain are the machine's last. */
	CHECK(arrives(GFNS - 512 + 200, page));
}

int main(int argc, char **argv)
{
	const char *flavour = argc > 1 ? argv[1] : "";

	privcmd = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC);
	REQUIRE(privcmd >= 0);
	check_privcmd();
	check_memory(!strcmp(flavour, "xenserver"));
	open_device();
	if (!strcmp(flavour, "draft2014"))
		check_draft();
	else if (!strcmp(flavour, "xenserver"))
		check_server();
	else if (!strcmp(flavour, "2025"))
		check_contexts();
	else
		check_off();
	client_close(&device);
	close(privcmd);
	return client_done();
}
