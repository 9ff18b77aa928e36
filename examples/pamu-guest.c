/* SPDX-License-Identifier: MIT */
/*
 * pamu-guest - give a device to a guest of 256 MiB on a machine with Freescale's PAMU, whose
 * address space is an aperture cut into windows, some of which MSIs need.
 *
 *   uiommu run --platform fsl-pamu -- ./pamu-guest
 *   uiommu run --platform fsl-pamu,msi=explicit -- ./pamu-guest explicit
 *
 * The argument is how MSI banks get into the aperture on that machine: implicit (if not given; the
 * kernel puts them at the top when interrupts are set up), explicit (MAP_MSI_BANK), mmap (the
 * bank's page is mmapped and given to MAP_DMA) or rounded (as implicit, and the program asks only
 * for the windows that its memory needs).
 *
 * 512 MiB of aperture in 8 windows of 64 MiB: 4 for the guest's memory, from 0; then up to 3 banks,
 * of 4 KiB each. The device, QEMU's educational one, copies from one window of the guest's memory
 * to another, and its interrupts arrive at an eventfd.
 */
#include <errno.h>
#include <stdbool.h>

#include <uiommu/linux/vfio_pamu.h>

#include "vfio.h"

#define MIB	 (1024ull * 1024)
#define APERTURE (512 * MIB)
#define WINDOWS	 8u
#define WINDOW	 (APERTURE / WINDOWS)
#define GUEST	 4u /* windows that are the guest's memory */

enum way { IMPLICIT, EXPLICIT, MMAP, ROUNDED };
static const char *const ways[] = {"implicit", "explicit", "mmap", "rounded"};

/* edu's registers and commands, from QEMU's docs/specs/edu.rst. */
enum { IRQ_ACK = 0x64, IRQ_DMA = 0x100 };
enum { DMA_SRC = 0x80, DMA_DST = 0x88, DMA_COUNT = 0x90, DMA_CMD = 0x98 };
enum { CMD_START = 1, CMD_FROM_DEVICE = 2, CMD_RAISE_IRQ = 4 };
enum { BUFFER = 0x40000, BYTES = 2048 };

/* Group into container, and the container's IOMMU: whichever number the machine has for PAMU. */
static int open_container(const char *bdf, int *group)
{
	const unsigned long types[] = {VFIO_FSL_PAMU_IOMMU, VFIO_FSL_PAMU_IOMMU_7};
	char number[64], path[128];
	int container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);

	if (container < 0 || ioctl(container, VFIO_GET_API_VERSION) != VFIO_API_VERSION)
		err(1, "/dev/vfio/vfio: is the module vfio loaded?");
	sysfs_link(bdf, "iommu_group", number);
	snprintf(path, sizeof(path), "/dev/vfio/%s", number);
	*group = open(path, O_RDWR | O_CLOEXEC);
	if (*group < 0 || ioctl(*group, VFIO_GROUP_SET_CONTAINER, &container))
		err(1, "%s: is %s bound to vfio-pci, and nobody else's?", path, bdf);
	for (unsigned i = 0; i < 2; i++)
		if (ioctl(container, VFIO_CHECK_EXTENSION, types[i]) > 0 &&
		    !ioctl(container, VFIO_SET_IOMMU, types[i]))
			return container;
	errx(1, "this machine has no PAMU: try 'uiommu run --platform fsl-pamu'");
}

static uint32_t get_windows(int container)
{
	struct vfio_pamu_attr attr = {.argsz = sizeof(attr), .attribute = VFIO_ATTR_WINDOWS};

	if (ioctl(container, VFIO_IOMMU_PAMU_GET_ATTR, &attr))
		err(1, "VFIO_IOMMU_PAMU_GET_ATTR");
	return attr.attr_info.windows;
}

/* Cut the aperture. Where the kernel adds the banks' windows, only ours are asked for. */
static void set_up_aperture(int container, enum way way)
{
	struct vfio_pamu_attr attr = {.argsz = sizeof(attr), .attribute = VFIO_ATTR_GEOMETRY};
	int banks = ioctl(container, VFIO_IOMMU_PAMU_GET_MSI_BANK_COUNT);

	if (banks < 0)
		err(1, "VFIO_IOMMU_PAMU_GET_MSI_BANK_COUNT");
	printf("%d MSI banks, at most %u windows\n", banks, get_windows(container));
	if (banks > (int)(WINDOWS - GUEST))
		errx(1, "%d banks don't fit behind the guest's memory", banks);
	attr.attr_info.attr.aperture_start = 0;
	attr.attr_info.attr.aperture_end = APERTURE - 1;
	if (ioctl(container, VFIO_IOMMU_PAMU_SET_ATTR, &attr))
		err(1, "setting the geometry");
	attr.attribute = VFIO_ATTR_WINDOWS;
	attr.attr_info.windows = way == ROUNDED ? GUEST : WINDOWS;
	if (ioctl(container, VFIO_IOMMU_PAMU_SET_ATTR, &attr))
		err(1, "setting the number of windows");
	if (get_windows(container) != WINDOWS)
		errx(1, "%u windows, expected %u", get_windows(container), WINDOWS);
}

/* 0, or an errno. */
static int map(int container, uint64_t iova, void *memory, uint64_t size)
{
	struct vfio_iommu_type1_dma_map request = {
		.argsz = sizeof(request),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)memory,
		.iova = iova,
		.size = size,
	};

	return ioctl(container, VFIO_IOMMU_MAP_DMA, &request) ? errno : 0;
}

static void unmap(int container, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_unmap request = {
		.argsz = sizeof(request), .iova = iova, .size = size};

	if (ioctl(container, VFIO_IOMMU_UNMAP_DMA, &request))
		err(1, "VFIO_IOMMU_UNMAP_DMA");
}

/* Memory of the guest's, whose windows lie at multiples of their size: huge pages, on hardware. */
static uint8_t *map_guest(int container)
{
	uint8_t *memory = mmap(NULL, (GUEST + 1) * WINDOW, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		err(1, "mmap of the guest's memory");
	memory += -(uintptr_t)memory & (WINDOW - 1);
	for (unsigned i = 0; i < GUEST; i++) {
		errno = map(container, i * WINDOW, memory + i * WINDOW, WINDOW);
		if (errno)
			err(1, "VFIO_IOMMU_MAP_DMA of window %u (is 'ulimit -l' too small?)", i);
	}
	return memory;
}

/* The ways in which banks are the program's to map: behind the guest's memory. */
static void map_banks(int container, int group, enum way way)
{
	int banks = ioctl(container, VFIO_IOMMU_PAMU_GET_MSI_BANK_COUNT);

	for (int bank = 0; bank < banks && (way == EXPLICIT || way == MMAP); bank++) {
		struct vfio_pamu_msi_bank_map request = {
			.argsz = sizeof(request),
			.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
			.msi_bank_index = bank,
			.iova = (GUEST + bank) * WINDOW,
		};
		void *page;
		int fd;

		if (way == EXPLICIT) {
			if (ioctl(container, VFIO_IOMMU_PAMU_MAP_MSI_BANK, &request))
				err(1, "VFIO_IOMMU_PAMU_MAP_MSI_BANK (another msi=…?)");
			continue;
		}
		fd = ioctl(group, VFIO_GROUP_GET_MSI_FD, (unsigned long)bank);
		if (fd < 0)
			err(1, "VFIO_GROUP_GET_MSI_FD (another msi=…?)");
		page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (page == MAP_FAILED)
			err(1, "mmap of MSI bank %d", bank);
		close(fd);
		errno = map(container, request.iova, page, PAGE);
		if (errno)
			err(1, "VFIO_IOMMU_MAP_DMA of MSI bank %d", bank);
	}
}

/* What is in a window, as the kernel answers an attempt to map something there. */
static const char *look(int container, unsigned window, uint8_t *memory)
{
	int error = map(container, window * WINDOW, memory, WINDOW);

	if (!error)
		unmap(container, window * WINDOW, WINDOW);
	switch (error) {
	case 0:
		return "free";
	case EBUSY:
		return window < GUEST ? "guest memory" : "MSI bank";
	case EINVAL:
		return "kept for MSI banks";
	default:
		errno = error;
		err(1, "VFIO_IOMMU_MAP_DMA of window %u", window);
	}
}

/* Print the layout, and see that it is the expected one: one interrupt is set up, so of banks that
 * the kernel maps there is one. */
static void check_layout(int container, enum way way, uint8_t *memory)
{
	static const char *const expected[][WINDOWS - GUEST] = {
		[IMPLICIT] = {"free", "free", "free", "MSI bank"},
		[EXPLICIT] = {"MSI bank", "MSI bank", "MSI bank", "free"},
		[MMAP] = {"MSI bank", "MSI bank", "MSI bank", "free"},
		[ROUNDED] = {"free", "kept for MSI banks", "kept for MSI banks",
			     "kept for MSI banks"},
	};

	for (unsigned i = 0; i < WINDOWS; i++) {
		const char *want = i < GUEST ? "guest memory" : expected[way][i - GUEST];
		const char *is = look(container, i, memory);

		printf("window %u  0x%08llx  %s\n", i, (unsigned long long)(i * WINDOW), is);
		if (strcmp(is, want))
			errx(1, "window %u: expected %s", i, want);
	}
}

static void reg_write(volatile uint8_t *bar, unsigned offset, uint64_t value)
{
	if (offset < DMA_SRC)
		*(volatile uint32_t *)(bar + offset) = value;
	else
		*(volatile uint64_t *)(bar + offset) = value;
}

static void copy(volatile uint8_t *bar, int irq, uint64_t src, uint64_t dst, unsigned direction)
{
	reg_write(bar, DMA_SRC, src);
	reg_write(bar, DMA_DST, dst);
	reg_write(bar, DMA_COUNT, BYTES);
	reg_write(bar, DMA_CMD, CMD_START | CMD_RAISE_IRQ | direction);
	vfio_irq_wait(irq);
	reg_write(bar, IRQ_ACK, IRQ_DMA);
}

int main(int argc, char **argv)
{
	const uint64_t from = WINDOW + 0x1234000, to = 3 * WINDOW + 0x2345000;
	enum way way = IMPLICIT;
	int container, group, device, irq;
	volatile uint8_t *bar;
	uint8_t *memory;
	char bdf[64];

	while (argc > 1 && way <= ROUNDED && strcmp(argv[1], ways[way]))
		way++;
	if (way > ROUNDED)
		errx(2, "usage: pamu-guest [implicit|explicit|mmap|rounded]");
	vfio_find(0x1234, 0x11e8, bdf);
	container = open_container(bdf, &group);
	set_up_aperture(container, way);
	memory = map_guest(container);
	map_banks(container, group, way);
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf);
	if (device < 0)
		err(1, "VFIO_GROUP_GET_DEVICE_FD %s", bdf);
	bar = vfio_enable(device);
	irq = vfio_irq(device, VFIO_PCI_MSI_IRQ_INDEX);
	check_layout(container, way, memory);

	for (unsigned i = 0; i < BYTES; i++)
		memory[from + i] = i * 7 + i / 256;
	copy(bar, irq, from, BUFFER, 0);
	copy(bar, irq, BUFFER, to, CMD_FROM_DEVICE);
	if (memcmp(memory + from, memory + to, BYTES) != 0)
		errx(1, "%s: what came back is not what was sent", bdf);
	printf("%s: %d bytes from %#llx to %#llx, two interrupts\n", bdf, BYTES,
	       (unsigned long long)from, (unsigned long long)to);
	return 0;
}
