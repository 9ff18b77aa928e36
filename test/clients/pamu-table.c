/* SPDX-License-Identifier: MIT */
/*
 * VFIO on PAMU as a program meets it, for each of the four ways in which MSI banks get into the
 * aperture: what each request answers there, with pointers that the kernel could not follow either,
 * and interrupts by way of a bank's window. The way is the argument.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

#include <uiommu/linux/vfio_pamu.h>

#include "client.h"

#define WINDOW	(16 * PAGE)
#define WINDOWS 16
#define MSI	VFIO_PCI_MSI_IRQ_INDEX
#define EVENT	(VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)

static uint8_t *memory; /* four windows, at a multiple of a window */
static bool explicit_way, mmap_way, implicit_way, rounded_way;

static int set_attr(int container, uint32_t attribute, uint64_t first, uint64_t last)
{
	struct vfio_pamu_attr attr = {.argsz = sizeof(attr), .attribute = attribute};

	if (attribute == VFIO_ATTR_GEOMETRY) {
		attr.attr_info.attr.aperture_start = first;
		attr.attr_info.attr.aperture_end = last;
	} else {
		attr.attr_info.windows = first;
	}
	return call(container, VFIO_IOMMU_PAMU_SET_ATTR, &attr);
}

static uint32_t windows(int container)
{
	struct vfio_pamu_attr attr = {.argsz = sizeof(attr), .attribute = VFIO_ATTR_WINDOWS};

	CHECK_EQ(call(container, VFIO_IOMMU_PAMU_GET_ATTR, &attr), 0);
	return attr.attr_info.windows;
}

static int map_bank(int container, uint32_t bank, uint64_t iova)
{
	struct vfio_pamu_msi_bank_map map = {
		.argsz = sizeof(map), .flags = RW, .msi_bank_index = bank, .iova = iova};

	return call(container, VFIO_IOMMU_PAMU_MAP_MSI_BANK, &map);
}

static int unmap_bank(int container, uint64_t iova)
{
	struct vfio_pamu_msi_bank_unmap unmap = {.argsz = sizeof(unmap), .iova = iova};

	return call(container, VFIO_IOMMU_PAMU_UNMAP_MSI_BANK, &unmap);
}

static void open_all(struct client *c)
{
	client_find(c, EDU, 0);
	client_open(c, VFIO_FSL_PAMU_IOMMU);
	client_open_device(c);
	client_command(c->device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	CHECK_EQ(set_attr(c->container, VFIO_ATTR_GEOMETRY, 0, WINDOWS * WINDOW - 1), 0);
	CHECK_EQ(set_attr(c->container, VFIO_ATTR_WINDOWS, rounded_way ? 13 : 16, 0), 0);
	CHECK_EQ(windows(c->container), WINDOWS);
}

/* A mapping holds the device open. */
static void close_all(struct client *c, volatile uint8_t *bar)
{
	if (bar)
		CHECK_EQ(munmap((void *)(uintptr_t)bar, client_region(c->device, 0).size), 0);
	client_close(c);
}

/* ---- pointers ---- */

static void check_pointers(void)
{
	static const struct {
		const char *name;
		unsigned long request;
		uint32_t size;
	} rows[] = {
		{"GET_ATTR", VFIO_IOMMU_PAMU_GET_ATTR, 32},
		{"SET_ATTR", VFIO_IOMMU_PAMU_SET_ATTR, 32},
		{"MAP_MSI_BANK", VFIO_IOMMU_PAMU_MAP_MSI_BANK, 24},
		{"UNMAP_MSI_BANK", VFIO_IOMMU_PAMU_UNMAP_MSI_BANK, 16},
		{"MAP_DMA", VFIO_IOMMU_MAP_DMA, 32},
		{"UNMAP_DMA", VFIO_IOMMU_UNMAP_DMA, 24},
	};
	uint8_t *pages = client_pages(1);
	struct vfio_pamu_attr attr = {.argsz = sizeof(attr), .attribute = VFIO_ATTR_WINDOWS};
	struct client c;

	open_all(&c);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool there = explicit_way || rows[i].request == VFIO_IOMMU_MAP_DMA ||
			     rows[i].request == VFIO_IOMMU_UNMAP_DMA ||
			     rows[i].request <= VFIO_IOMMU_PAMU_SET_ATTR;
		int bad = there ? -EFAULT : -ENOTTY, small = there ? -EINVAL : -ENOTTY;

		memset(pages, 0, PAGE);
		CHECK_ROW(rows[i].name, call(c.container, rows[i].request, NULL), bad);
		CHECK_ROW(rows[i].name, call(c.container, rows[i].request, (void *)-8L), bad);
		CHECK_ROW(rows[i].name, call(c.container, rows[i].request, pages), small);
		/* Its last byte is on the page that isn't there. */
		CHECK_ROW(rows[i].name,
			  call(c.container, rows[i].request, pages + PAGE - rows[i].size + 1), bad);
		*(uint32_t *)(pages + PAGE - rows[i].size) = rows[i].size - 1;
		CHECK_ROW(rows[i].name,
			  call(c.container, rows[i].request, pages + PAGE - rows[i].size), small);
	}
	/* The answer can't be written. */
	memcpy(pages, &attr, sizeof(attr));
	CHECK_EQ(mprotect(pages, PAGE, PROT_READ), 0);
	CHECK_EQ(call(c.container, VFIO_IOMMU_PAMU_GET_ATTR, pages), -EFAULT);
	CHECK_EQ(call(c.container, VFIO_IOMMU_PAMU_SET_ATTR, pages), -EINVAL); /* 0 windows */
	/* Memory that can't be written is no memory to be written to. */
	CHECK_EQ(client_map(c.container, 0, (void *)PAGE, WINDOW, RW), -EFAULT);
	munmap(pages, 2 * PAGE);
	close_all(&c, NULL);
}

/* ---- mapping ---- */

static bool dma(struct client *c, volatile uint8_t *bar, uint64_t iova, const void *expected)
{
	uint8_t before = memory[3 * WINDOW];

	/* Through edu's buffer into the fourth window's first byte. */
	REG(bar, uint64_t, 0x80) = iova;
	REG(bar, uint64_t, 0x88) = 0x40000;
	REG(bar, uint64_t, 0x90) = 1;
	REG(bar, uint64_t, 0x98) = 1;
	while (REG(bar, uint64_t, 0x98) & 1)
		usleep(100);
	REG(bar, uint64_t, 0x80) = 0x40000;
	REG(bar, uint64_t, 0x88) = 3 * WINDOW;
	REG(bar, uint64_t, 0x98) = 3;
	while (REG(bar, uint64_t, 0x98) & 1)
		usleep(100);
	return memory[3 * WINDOW] != before && memory[3 * WINDOW] == *(const uint8_t *)expected;
}

static void check_maps(void)
{
	struct client c;
	volatile uint8_t *bar;

	open_all(&c);
	bar = client_bar(c.device);
	CHECK_EQ(client_map(c.container, PAGE, memory, WINDOW, RW), -EINVAL);
	CHECK_EQ(client_map(c.container, 0, memory, PAGE, RW), -EINVAL);
	CHECK_EQ(client_map(c.container, 0, memory + PAGE, WINDOW, RW), -EINVAL);
	CHECK_EQ(client_map(c.container, WINDOWS * WINDOW, memory, WINDOW, RW), -EINVAL);
	CHECK_EQ(client_map(c.container, 0, memory, 4 * WINDOW, RW), 0);
	CHECK_EQ(client_map(c.container, 3 * WINDOW, memory, WINDOW, RW), -EBUSY);
	CHECK_EQ(set_attr(c.container, VFIO_ATTR_GEOMETRY, 0, WINDOW - 1), -EBUSY);
	CHECK_EQ(set_attr(c.container, VFIO_ATTR_WINDOWS, 8, 0), -EBUSY);
	memory[3 * WINDOW] = 0;
	memory[5] = 0x11;
	CHECK(dma(&c, bar, 5, &memory[5]));
	/* A violation cuts it off; the next MAP_DMA lets it in again. */
	memory[6] = 0x22;
	CHECK(!dma(&c, bar, 7 * WINDOW, &memory[6]));
	CHECK(!dma(&c, bar, 6, &memory[6]));
	CHECK_EQ(client_map(c.container, 4 * WINDOW, memory, WINDOW, RW), 0);
	CHECK(dma(&c, bar, 4 * WINDOW + 6, &memory[6]));
	/* A window goes; cutting one is refused. */
	CHECK_EQ(client_unmap(c.container, PAGE, WINDOW, 0), -EINVAL);
	CHECK_EQ(client_unmap(c.container, WINDOW, WINDOW, 0), WINDOW);
	CHECK_EQ(client_map(c.container, WINDOW, memory + WINDOW, WINDOW, RW), 0);
	CHECK_EQ(client_unmap(c.container, 0, UINT64_MAX, 0), -1); /* the size stays as it was */
	CHECK_EQ(set_attr(c.container, VFIO_ATTR_WINDOWS, rounded_way ? 5 : 8, 0), 0);
	CHECK_EQ(windows(c.container), 8);
	close_all(&c, bar);
}

/* ---- interrupts ---- */

static bool interrupts(volatile uint8_t *bar, int event, bool expected)
{
	bool came;

	REG(bar, uint32_t, 0x60) = 1;
	/* What does not come has become a fault by the time the device answers a factorial. */
	REG(bar, uint32_t, 0x08) = 5;
	while (REG(bar, uint32_t, 0x20) & 1)
		usleep(100);
	came = expected ? client_wait_event(event) : client_events(event);
	REG(bar, uint32_t, 0x64) = 1;
	return came;
}

/* An mmap of the bank's page, which nobody can touch. */
static void *map_page(struct client *c, unsigned bank)
{
	int fd = call_value(c->group, VFIO_GROUP_GET_MSI_FD, bank);
	void *page;

	REQUIRE(fd >= 0);
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED && errno == EINVAL);
	CHECK(mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED);
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, PAGE) == MAP_FAILED);
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	REQUIRE(page != MAP_FAILED);
	CHECK_EQ(close(fd), 0);
	return page;
}

static void check_interrupts(void)
{
	int event = client_eventfd(), fds[1] = {event};
	volatile uint8_t *bar;
	void *page = NULL;
	struct client c;

	open_all(&c);
	bar = client_bar(c.device);
	CHECK_EQ(call_value(c.container, VFIO_IOMMU_PAMU_GET_MSI_BANK_COUNT, 0), 3);
	CHECK_EQ(client_map(c.container, 0, memory, 4 * WINDOW, RW), 0);
	if (explicit_way || mmap_way)
		CHECK_EQ(client_irqs(c.device, EVENT, MSI, 0, 1, fds), -ENODEV);
	CHECK_EQ(map_bank(c.container, 0, 4 * WINDOW), explicit_way ? 0 : -ENOTTY);
	if (mmap_way) {
		page = map_page(&c, 0);
		CHECK_EQ(client_map(c.container, 4 * WINDOW, page, PAGE, RW), 0);
	} else {
		CHECK_EQ(call_value(c.group, VFIO_GROUP_GET_MSI_FD, 0), -ENOTTY);
	}
	CHECK_EQ(client_irqs(c.device, EVENT, MSI, 0, 1, fds), 0);
	CHECK(interrupts(bar, event, true));
	CHECK(interrupts(bar, event, true));
	/* Where the bank is no memory goes. */
	if (explicit_way || mmap_way)
		CHECK_EQ(client_map(c.container, 4 * WINDOW, memory, WINDOW, RW), -EBUSY);
	else
		CHECK_EQ(client_map(c.container, 15 * WINDOW, memory, WINDOW, RW),
			 rounded_way ? -EINVAL : -EBUSY);
	/* Taken away: no interrupt. */
	if (explicit_way)
		CHECK_EQ(unmap_bank(c.container, 4 * WINDOW), 0);
	else if (mmap_way)
		CHECK_EQ(client_unmap(c.container, 4 * WINDOW, PAGE, 0), PAGE);
	else
		CHECK_EQ(client_unmap(c.container, 0, 4 * WINDOW, 0), 4 * WINDOW);
	CHECK(!interrupts(bar, event, false));
	if (page)
		CHECK_EQ(munmap(page, PAGE), 0);
	close_all(&c, bar);
	close(event);
}

/* Without room for a bank. */
static void check_room(void)
{
	int event = client_eventfd(), fds[1] = {event};
	struct client c;

	open_all(&c);
	CHECK_EQ(set_attr(c.container, VFIO_ATTR_WINDOWS, 4, 0), 0);
	CHECK_EQ(set_attr(c.container, VFIO_ATTR_GEOMETRY, 0, 4 * WINDOW - 1), 0);
	CHECK_EQ(client_irqs(c.device, EVENT, MSI, 0, 1, fds), -ENODEV); /* no windows */
	CHECK_EQ(set_attr(c.container, VFIO_ATTR_WINDOWS, 4, 0), 0);
	CHECK_EQ(client_map(c.container, 0, memory, 4 * WINDOW, RW), 0);
	CHECK_EQ(client_irqs(c.device, EVENT, MSI, 0, 1, fds), -ENOSPC);
	CHECK_EQ(client_unmap(c.container, WINDOW, WINDOW, 0), WINDOW);
	CHECK_EQ(client_irqs(c.device, EVENT, MSI, 0, 1, fds), 0);
	close_all(&c, NULL);
	close(event);
}

/* ---- the page of a bank in this process ---- */

static sigjmp_buf after_fault;

static void on_fault(int signal)
{
	siglongjmp(after_fault, 1);
}

static bool touches(volatile uint8_t *at, bool write)
{
	if (sigsetjmp(after_fault, 1))
		return false;
	if (write)
		*at = 1;
	else
		(void)*at;
	return true;
}

static void check_page(void)
{
	struct sigaction action = {.sa_handler = on_fault}, old;
	int event = client_eventfd(), fds[1] = {event}, pipes[2], status;
	const uint8_t fresh = 0x33; /* in no buffer yet */
	uint8_t *page, *moved;
	volatile uint8_t *bar;
	struct client c;

	open_all(&c);
	bar = client_bar(c.device);
	page = map_page(&c, 0);
	sigaction(SIGSEGV, &action, &old);
	CHECK(!touches(page, false));
	CHECK(!touches(page, true));
	CHECK_EQ(mprotect(page, PAGE, PROT_READ | PROT_WRITE), 0);
	CHECK(!touches(page, false));
	CHECK(!touches(page, true));
	sigaction(SIGSEGV, &old, NULL);
	/* Nor by way of a system call. */
	REQUIRE(pipe(pipes) == 0);
	CHECK(write(pipes[1], page, 1) < 0 && errno == EFAULT);
	close(pipes[0]);
	close(pipes[1]);
	/* It can be moved, and is a bank where it goes, and no more where it was. */
	moved = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, moved) == moved);
	CHECK_EQ(client_map(c.container, 5 * WINDOW, page, PAGE, RW), -EINVAL);
	CHECK_EQ(client_map(c.container, 5 * WINDOW, page, WINDOW, RW), -EFAULT);
	CHECK_EQ(client_map(c.container, 5 * WINDOW, moved, 2 * PAGE, RW), -EINVAL);
	CHECK_EQ(client_map(c.container, 5 * WINDOW, moved, PAGE, RW), 0);
	CHECK_EQ(client_irqs(c.device, EVENT, MSI, 0, 1, fds), 0);
	/* What is mapped stays so without the page. */
	CHECK_EQ(munmap(moved, PAGE), 0);
	CHECK(interrupts(bar, event, true));
	/* Memory beneath a mapping, replaced by a bank's page: no device reaches a bank like that.
	 */
	CHECK_EQ(client_map(c.container, 0, memory, 4 * WINDOW, RW), 0);
	page = map_page(&c, 1);
	CHECK(mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, memory) == memory);
	memory[3 * WINDOW] = 0;
	CHECK(!dma(&c, bar, 0, &fresh));
	CHECK_EQ(client_map(c.container, 6 * WINDOW, memory, WINDOW, RW), -EINVAL);
	CHECK(mmap(memory, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		   -1, 0) == memory);
	CHECK_EQ(client_map(c.container, 6 * WINDOW, memory, WINDOW, RW), 0);
	/* A child has a machine of its own, and the page. */
	page = map_page(&c, 2);
	if (!fork()) {
		CHECK_EQ(client_map(c.container, 8 * WINDOW, page, PAGE, RW), 0);
		_exit(client_done());
	}
	CHECK(wait(&status) > 0 && status == 0);
	CHECK_EQ(client_map(c.container, 8 * WINDOW, page, PAGE, RW), 0);
	close_all(&c, bar);
	CHECK_EQ(munmap(page, PAGE), 0);
	close(event);
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "";

	explicit_way = !strcmp(way, "explicit");
	mmap_way = !strcmp(way, "mmap");
	implicit_way = !strcmp(way, "implicit");
	rounded_way = !strcmp(way, "rounded");
	REQUIRE(explicit_way || mmap_way || implicit_way || rounded_way);
	memory = client_pages(5 * WINDOW / PAGE);
	memory += -(uintptr_t)memory & (WINDOW - 1);
	check_pointers();
	check_maps();
	check_interrupts();
	if (implicit_way)
		check_room();
	if (mmap_way)
		check_page();
	return client_done();
}
