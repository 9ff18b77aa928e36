/* SPDX-License-Identifier: MIT */
/*
 * libvfn-iommufd - the calls that libvfn makes where it finds iommufd: nodes and /dev/iommu looked
 * for first, ranges asked for without room, memory mapped wherever the kernel likes, queue by
 * queue; an NVMe controller whose registers and doorbells are two mappings, the second write-only;
 * all vectors set at once, most of them to nothing; an event that is asked for before it happens.
 */
#include "iommufd.h"
#include "nvme.h"

enum { RW_FLAGS = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE };
enum { TRIGGER = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER };
enum { VECTOR = 1, MOST_VECTORS = 256, BLOCKS = 8 };

struct controller {
	char bdf[64];
	int iommufd, node, event;
	uint32_t ioas, id;
	struct nvme nvme;
	uint64_t iova[4]; /* of the queues */
	uint64_t bar_size;
};

/* How it chooses what to use, and finds that it is a controller for NVMe. */
static void look_around(struct controller *c)
{
	char path[512], text[32] = "";
	struct stat st;
	FILE *file;

	CHECK_EQ(stat("/dev/vfio/devices", &st), 0);
	CHECK(S_ISDIR(st.st_mode));
	CHECK_EQ(stat("/dev/iommu", &st), 0);
	CHECK(S_ISCHR(st.st_mode));
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/class", c->bdf);
	file = fopen(path, "r");
	REQUIRE(file != NULL);
	CHECK(fgets(text, sizeof(text), file) != NULL);
	CHECK_EQ(strtoul(text, NULL, 16), 0x010802);
	fclose(file);
}

static void bring_up(struct controller *c)
{
	struct vfio_device_info info = {.argsz = sizeof(info)};
	struct iommu_iova_range *ranges;
	uint64_t alignment;
	uint32_t count;

	c->iommufd = open("/dev/iommu", O_RDWR);
	REQUIRE(c->iommufd >= 0);
	c->ioas = ioas_alloc(c->iommufd);
	c->node = node_open(c->bdf);
	CHECK_EQ(node_bind(c->node, c->iommufd, &c->id), 0);
	CHECK_EQ(call(c->node, VFIO_DEVICE_GET_INFO, &info), 0);
	CHECK(info.flags & VFIO_DEVICE_FLAGS_PCI);
	CHECK_EQ(node_attach(c->node, c->ioas), 0);
	ranges = ioas_ranges(c->iommufd, c->ioas, &count, &alignment);
	CHECK(alignment <= PAGE);
	CHECK(ranges[0].last > ranges[0].start);
	free(ranges);
	client_command(c->node, COMMAND_MEMORY | COMMAND_MASTER, 0);
}

/* Registers in the first page, and doorbells behind it that are never read. */
static void map_bar(struct controller *c)
{
	struct vfio_region_info info = client_region(c->node, 0);
	void *regs = mmap(NULL, NVME_DOORBELLS, PROT_READ | PROT_WRITE, MAP_SHARED, c->node,
			  info.offset);
	void *doorbells = mmap(NULL, info.size - NVME_DOORBELLS, PROT_WRITE, MAP_SHARED, c->node,
			       info.offset + NVME_DOORBELLS);

	REQUIRE(regs != MAP_FAILED && doorbells != MAP_FAILED);
	c->nvme.regs = regs;
	c->nvme.doorbells = doorbells;
	c->bar_size = info.size;
}

/* One vector has an eventfd. */
static void set_vectors(struct controller *c)
{
	struct vfio_irq_info info = {.argsz = sizeof(info), .index = VFIO_PCI_MSIX_IRQ_INDEX};
	int fds[MOST_VECTORS];

	CHECK_EQ(call(c->node, VFIO_DEVICE_GET_IRQ_INFO, &info), 0);
	REQUIRE(info.count > VECTOR && info.count <= MOST_VECTORS);
	for (unsigned i = 0; i < info.count; i++)
		fds[i] = -1;
	c->event = client_eventfd();
	fds[VECTOR] = c->event;
	CHECK_EQ(client_irqs(c->node, TRIGGER, info.index, 0, info.count, fds), 0);
}

/* Queues, each by itself, where the kernel puts them. */
static void map_queues(struct controller *c)
{
	c->nvme.queues = client_pages(4);
	for (unsigned i = 0; i < 4; i++) {
		CHECK_EQ(ioas_map(c->iommufd, c->ioas, RW_FLAGS, c->nvme.queues + i * PAGE, PAGE,
				  &c->iova[i]),
			 0);
		for (unsigned j = 0; j < i; j++)
			CHECK(c->iova[i] != c->iova[j]);
	}
}

static unsigned transfer(struct controller *c, unsigned opcode, uint64_t iova)
{
	const struct nvme_command cmd = {
		.cdw0 = opcode, .nsid = 1, .prp = {iova}, .cdw = {0, 0, PAGE / 512 - 1}};
	unsigned status = nvme_run(&c->nvme, 1, cmd);

	CHECK_EQ(client_wait_event(c->event), 1);
	nvme_consumed(&c->nvme, 1);
	return status;
}

/* A buffer comes and goes with each transfer; the place of the one before is taken again. */
static void test_io(struct controller *c)
{
	uint8_t *out = client_pages(1), *in = client_pages(1);
	uint64_t iova = 0, first = 0;

	for (unsigned i = 0; i < PAGE; i++)
		out[i] = (uint8_t)(i * 11 + i / 256);
	for (unsigned n = 0; n < 50; n++) {
		CHECK_EQ(ioas_map(c->iommufd, c->ioas, RW_FLAGS, n % 2 ? in : out, PAGE, &iova), 0);
		CHECK_EQ(transfer(c, n % 2 ? NVME_READ : NVME_WRITE, iova), 0);
		CHECK_EQ(ioas_unmap(c->iommufd, c->ioas, iova, PAGE), (long long)PAGE);
		first = n ? first : iova;
		CHECK_EQ(iova, first);
	}
	check_bytes(__FILE__, __LINE__, "what was read", in, out, PAGE);
	/* And is out of reach without. */
	CHECK_EQ(transfer(c, NVME_READ, first), NVME_TRANSFER_ERROR);
	munmap(out, 2 * PAGE);
	munmap(in, 2 * PAGE);
}

static void test_identify(struct controller *c)
{
	struct nvme_command cmd = {.cdw0 = NVME_IDENTIFY, .cdw = {1}}; /* the controller */
	uint8_t *data = client_pages(1);
	uint64_t iova = 0;

	CHECK_EQ(ioas_map(c->iommufd, c->ioas, RW_FLAGS, data, PAGE, &iova), 0);
	cmd.prp[0] = iova;
	CHECK_EQ(nvme_run(&c->nvme, 0, cmd), 0);
	nvme_consumed(&c->nvme, 0);
	CHECK_EQ(data[0] | data[1] << 8, 0x1234); /* the vendor */
	CHECK_EQ(ioas_unmap(c->iommufd, c->ioas, iova, PAGE), (long long)PAGE);
	munmap(data, 2 * PAGE);
}

/* Asked for, and answered when there is something: here, that a doorbell got what is no place in
 * its queue. */
static void test_event(struct controller *c)
{
	const struct nvme_command ask = {.cdw0 = NVME_ASYNC_EVENT | 0x77 << 16};
	struct nvme_completion done;

	nvme_submit(&c->nvme, 0, ask);
	test_identify(c);
	REG(c->nvme.doorbells, uint32_t, 8) = NVME_ENTRIES + 1;
	done = nvme_next(&c->nvme, 0);
	CHECK_EQ(nvme_status(done), 0);
	CHECK_EQ(done.command, 0x77);
	CHECK_EQ(done.result & 0xffff, 0x0100); /* an error: an invalid doorbell value */
	nvme_consumed(&c->nvme, 0);
}

static void take_down(struct controller *c)
{
	for (unsigned i = 0; i < 4; i++)
		CHECK_EQ(ioas_unmap(c->iommufd, c->ioas, c->iova[i], PAGE), (long long)PAGE);
	munmap((void *)c->nvme.regs, NVME_DOORBELLS);
	munmap((void *)c->nvme.doorbells, c->bar_size - NVME_DOORBELLS);
	munmap(c->nvme.queues, 5 * PAGE);
	close(c->event);
	close(c->node);
	CHECK_EQ(iommu_destroy_id(c->iommufd, c->ioas), 0);
	close(c->iommufd);
}

static void run(void)
{
	struct controller c = {0};
	struct client found;

	client_find(&found, NVME, 0);
	memcpy(c.bdf, found.bdf, sizeof(c.bdf));
	look_around(&c);
	bring_up(&c);
	map_bar(&c);
	CHECK_EQ(call(c.node, VFIO_DEVICE_RESET, NULL), 0);
	client_command(c.node, COMMAND_MEMORY | COMMAND_MASTER, 0);
	set_vectors(&c);
	map_queues(&c);
	nvme_start(&c.nvme, c.iova, VECTOR);
	test_identify(&c);
	test_io(&c);
	test_event(&c);
	take_down(&c);
}

int main(void)
{
	/* The controller is as good as new, and is taken again. */
	run();
	run();
	return client_done();
}
