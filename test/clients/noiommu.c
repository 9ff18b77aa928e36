/* SPDX-License-Identifier: MIT */
/*
 * noiommu - a program for VFIO's no-IOMMU mode: what sysfs shows, every refusal, DMA by an I/OAT
 * engine and by edu to the program's own addresses, and edu's interrupt. The argument says whether
 * the machine grants CAP_SYS_RAWIO: "yes", or "no", where nothing but refusals is to be had.
 */
#include "client.h"

#include <fcntl.h>
#include <sys/stat.h>

#define PARAMETER "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"

/* edu's registers, from QEMU's docs/specs/edu.rst; its DMA addresses have 28 bits. */
enum { EDU_ACK = 0x64, EDU_SRC = 0x80, EDU_DST = 0x88, EDU_COUNT = 0x90, EDU_CMD = 0x98 };
enum { EDU_START = 1, EDU_TO_MEMORY = 2, EDU_RAISE = 4, EDU_BUFFER = 0x40000 };
#define EDU_REACH (UINT64_C(1) << 28)

static bool file_reads(const char *path, const char *expected)
{
	char text[128] = "";
	FILE *f = fopen(path, "r");

	if (!f || !fgets(text, sizeof(text), f))
		text[0] = 0;
	if (f)
		fclose(f);
	text[strcspn(text, "\n")] = 0;
	return strcmp(text, expected) == 0;
}

/* The node of a group without an IOMMU has a name of its own. */
static void find(struct client *c, unsigned vendor, unsigned device, unsigned n)
{
	char number[32], path[128];
	struct stat st;

	client_find(c, vendor, device, n);
	snprintf(number, sizeof(number), "%.30s", strrchr(c->group_path, '/') + 1);
	CHECK(stat(c->group_path, &st) == -1 && errno == ENOENT);
	snprintf(c->group_path, sizeof(c->group_path), "/dev/vfio/noiommu-%s", number);
	CHECK(stat(c->group_path, &st) == 0 && S_ISCHR(st.st_mode));
	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%s/name", number);
	CHECK(file_reads(path, "vfio-noiommu"));
	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%s/reserved_regions", number);
	CHECK(file_reads(path, ""));
	snprintf(path, sizeof(path), "/sys/class/vfio/noiommu-%s", number);
	CHECK_EQ(stat(path, &st), 0);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.40s/iommu", c->bdf);
	CHECK(lstat(path, &st) == -1 && errno == ENOENT);
}

static void check_extensions(int container, bool grouped, bool set)
{
	static const struct {
		int extension, bare, grouped;
	} rows[] = {
		{0, 0, 0},
		{VFIO_TYPE1_IOMMU, 1, 0},
		{VFIO_SPAPR_TCE_IOMMU, 0, 0},
		{VFIO_TYPE1v2_IOMMU, 1, 0},
		{VFIO_DMA_CC_IOMMU, 0, 0},
		{VFIO_SPAPR_TCE_v2_IOMMU, 0, 0},
		{VFIO_NOIOMMU_IOMMU, 1, 1},
		{VFIO_UNMAP_ALL, 1, 0},
		{CLIENT_UPDATE_VADDR, 0, 0},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CHECK_ROW(set	    ? "extension, set"
			  : grouped ? "extension, with a group"
				    : "extension, bare",
			  call_value(container, VFIO_CHECK_EXTENSION, rows[i].extension),
			  grouped ? rows[i].grouped : rows[i].bare);
}

static void check_refused(struct client *c)
{
	int container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);

	REQUIRE(container >= 0);
	check_extensions(container, false, false);
	for (int i = 0; i < 2; i++)
		CHECK(open(c->group_path, O_RDWR | O_CLOEXEC) == -1 && errno == EPERM);
	CHECK_EQ(call_value(container, VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU), -EINVAL);
	CHECK_EQ(call_value(container, VFIO_IOMMU_GET_INFO, 0), -EINVAL);
	close(container);
}

static void check_set_iommu(struct client *c)
{
	static const int wrong[] = {0, 1, 2, 3, 4, 7, 9, 10, -1};
	struct vfio_group_status status = {.argsz = sizeof(status)};
	int other;

	client_open(c, 0);
	CHECK(open(c->group_path, O_RDWR | O_CLOEXEC) == -1 && errno == EBUSY);
	check_extensions(c->container, true, false);
	CHECK_EQ(call(c->group, VFIO_GROUP_GET_DEVICE_FD, c->bdf), -EINVAL);
	CHECK_EQ(call(c->group, VFIO_GROUP_GET_DEVICE_FD, "0000:00:1f.7"), -ENODEV);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CHECK_EQ(call_value(c->container, VFIO_SET_IOMMU, wrong[i]), -ENODEV);
	CHECK_EQ(call_value(c->container, VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU), 0);
	CHECK_EQ(call_value(c->container, VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU), -EINVAL);
	check_extensions(c->container, true, true);
	CHECK_EQ(call(c->group, VFIO_GROUP_GET_STATUS, &status), 0);
	CHECK_EQ(status.flags, 3);
	other = c->container;
	CHECK_EQ(call(c->group, VFIO_GROUP_SET_CONTAINER, &other), -EINVAL);
}

/* Nothing is mapped, whatever is asked. */
static void check_requests(int container, void *memory)
{
	struct vfio_iommu_type1_info info = {.argsz = sizeof(info)};

	CHECK_EQ(call(container, VFIO_IOMMU_GET_INFO, &info), -ENOTTY);
	CHECK_EQ(client_map(container, 0x10000, memory, PAGE, RW), -ENOTTY);
	CHECK_EQ(client_unmap(container, 0x10000, PAGE, 0), -ENOTTY);
	CHECK_EQ(call_value(container, VFIO_IOMMU_ENABLE, 0), -ENOTTY);
	CHECK_EQ(call_value(container, VFIO_IOMMU_MAP_DMA, 0), -ENOTTY);
}

static uint64_t address(const void *p)
{
	return (uintptr_t)p;
}

/* One descriptor copies between two pages; the chain, the completion and the data are all at the
 * program's own addresses. */
static void check_ioat(void)
{
	uint8_t *memory = client_pages(4);
	struct ioat_descriptor *chain = (void *)memory;
	uint8_t *from = memory + 2 * PAGE, *to = memory + 3 * PAGE;
	volatile uint8_t *bar;
	struct client c;

	find(&c, IOAT, 0);
	client_open(&c, VFIO_NOIOMMU_IOMMU);
	client_open_device(&c);
	check_requests(c.container, memory);
	client_command(c.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	bar = client_bar(c.device);
	for (unsigned i = 0; i < PAGE; i++)
		from[i] = i * 13 + 1;
	chain[0] = (struct ioat_descriptor){
		.size = PAGE, .control = IOAT_COMPLETION, .src = address(from), .dst = address(to)};
	ioat_reset(bar, address(memory + PAGE));
	CHECK_EQ(ioat_run(bar, address(chain), 1), IOAT_DONE);
	CHECK(memcmp(from, to, PAGE) == 0);
	/* What isn't the program's memory is nobody's: the channel halts, and nothing is hurt. */
	chain[0].dst = address(memory + 4 * PAGE);
	ioat_reset(bar, address(memory + PAGE));
	CHECK_EQ(ioat_run(bar, address(chain), 1), IOAT_HALTED);
	client_close(&c);
}

static void edu_copy(volatile uint8_t *bar, uint64_t src, uint64_t dst, unsigned direction, int irq)
{
	REG(bar, uint64_t, EDU_SRC) = src;
	REG(bar, uint64_t, EDU_DST) = dst;
	REG(bar, uint64_t, EDU_COUNT) = 2048;
	REG(bar, uint64_t, EDU_CMD) = EDU_START | EDU_RAISE | direction;
	CHECK_EQ(client_wait_event(irq), 1);
	REG(bar, uint32_t, EDU_ACK) = 0x100;
}

static void check_edu(struct client *c)
{
	uint8_t *memory = mmap((void *)(EDU_REACH / 2), 2 * PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	const uint32_t trigger = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	int irq = client_eventfd();
	volatile uint8_t *bar;

	REQUIRE(memory != MAP_FAILED && address(memory) + 2 * PAGE <= EDU_REACH);
	client_open_device(c);
	client_command(c->device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	bar = client_bar(c->device);
	CHECK_EQ(client_irqs(c->device, trigger, VFIO_PCI_MSI_IRQ_INDEX, 0, 1, &irq), 0);
	for (unsigned i = 0; i < 2048; i++)
		memory[i] = i * 7 + 3;
	edu_copy(bar, address(memory), EDU_BUFFER, 0, irq);
	edu_copy(bar, EDU_BUFFER, address(memory + PAGE), EDU_TO_MEMORY, irq);
	CHECK(memcmp(memory, memory + PAGE, 2048) == 0);
	/* Other addresses of the program's serve as well, and need no request to be reached. */
	REQUIRE(mremap(memory, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, memory + 8 * PAGE) ==
		memory + 8 * PAGE);
	memset(memory + 8 * PAGE, 0x5a, 2048);
	edu_copy(bar, address(memory + 8 * PAGE), EDU_BUFFER, 0, irq);
	edu_copy(bar, EDU_BUFFER, address(memory + PAGE), EDU_TO_MEMORY, irq);
	CHECK_EQ(memory[PAGE + 2047], 0x5a);
	close(irq);
}

int main(int argc, char **argv)
{
	struct client c;

	REQUIRE(argc == 2);
	CHECK(file_reads(PARAMETER, "Y"));
	find(&c, EDU, 0);
	if (!strcmp(argv[1], "no")) {
		check_refused(&c);
		return client_done();
	}
	check_set_iommu(&c);
	check_edu(&c);
	check_ioat();
	client_close(&c);
	return client_done();
}
