/* SPDX-License-Identifier: MIT */
/* Devices: what they report, their regions by pread, pwrite and mmap, virtualised configuration
 * space, resets and features. */
#include <errno.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi_test.h"
#include "check.h"

#define EDU  "0000:00:01.0"
#define IOAT "0000:00:02.0"

struct opened {
	struct rig rig;
	struct session edu, ioat;
};

static void open_both(struct opened *o, const struct rig_options *options)
{
	assert_true(rig_up(&o->rig, options));
	o->edu = rig_session(&o->rig, 0, VFIO_TYPE1v2_IOMMU, EDU);
	o->ioat = rig_session(&o->rig, 1, VFIO_TYPE1v2_IOMMU, IOAT);
}

/* ---- info ---- */

static void test_info(void **state)
{
	static const struct {
		uint32_t argsz;
		long error;
	} rows[] = {{0, -EINVAL}, {15, -EINVAL}, {16, 0}, {20, 0}, {24, 0}, {UINT32_MAX, 0}};
	struct opened o;

	open_both(&o, NULL);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint32_t words[7];

		memset(words, 0x5a, sizeof(words));
		words[0] = rows[i].argsz;
		assert_int_equal(rig_ioctl(&o.rig, o.ioat.device, VFIO_DEVICE_GET_INFO, words),
				 rows[i].error);
		assert_int_equal(words[0], rows[i].argsz);
		if (rows[i].error)
			continue;
		assert_int_equal(words[1], VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET);
		assert_int_equal(words[2], 9);
		assert_int_equal(words[3], 5);
		assert_int_equal(words[4], rows[i].argsz >= 20 ? 0 : 0x5a5a5a5a);
		assert_int_equal(words[5], rows[i].argsz >= 24 ? 0 : 0x5a5a5a5a);
		assert_int_equal(words[6], 0x5a5a5a5a);
		/* edu has no reset. */
		assert_int_equal(rig_ioctl(&o.rig, o.edu.device, VFIO_DEVICE_GET_INFO, words), 0);
		assert_int_equal(words[1], VFIO_DEVICE_FLAGS_PCI);
	}
	assert_int_equal(rig_ioctl(&o.rig, o.edu.device, VFIO_DEVICE_GET_INFO, NULL), -EFAULT);
	assert_int_equal(rig_ioctl(&o.rig, o.edu.device, VFIO_GROUP_GET_STATUS, NULL), -ENOTTY);
	assert_int_equal(rig_ioctl(&o.rig, o.edu.device, _IO(';', 100 + 18), NULL), -EFAULT);
	assert_int_equal(rig_ioctl(&o.rig, o.edu.device, _IO(';', 100 + 18), (uint32_t[4]){16}),
			 -EINVAL);
	rig_down(&o.rig);
}

static void test_regions(void **state)
{
	static const struct {
		bool ioat;
		uint32_t index;
		long error;
		uint32_t flags;
		uint64_t size;
	} rows[] = {
		{false, 0, 0, 7, 0x100000}, {false, 1, 0, 0, 0},	 {false, 5, 0, 0, 0},
		{false, 6, 0, 0, 0},	    {false, 7, 0, 3, 256},	 {false, 8, -EINVAL, 0, 0},
		{false, 9, -EINVAL, 0, 0},  {false, ~0u, -EINVAL, 0, 0}, {true, 0, 0, 15, 0x4000},
		{true, 1, 0, 0, 0},	    {true, 7, 0, 3, 4096},
	};
	struct opened o;

	open_both(&o, NULL);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct vfio_region_info info = {.argsz = sizeof(info), .index = rows[i].index};
		int device = rows[i].ioat ? o.ioat.device : o.edu.device;

		assert_int_equal(rig_ioctl(&o.rig, device, VFIO_DEVICE_GET_REGION_INFO, &info),
				 rows[i].error);
		if (rows[i].error)
			continue;
		assert_int_equal(info.flags, rows[i].flags);
		assert_int_equal(info.size, rows[i].size);
		assert_int_equal(info.offset, (uint64_t)rows[i].index << 40);
		assert_int_equal(info.argsz, rows[i].flags & 8 ? 40 : 32);
		assert_int_equal(info.cap_offset, 0);
	}
	rig_down(&o.rig);
}

/* The MSI-X capability needs room, and says so. */
static void test_region_capability(void **state)
{
	struct {
		struct vfio_region_info info;
		struct vfio_info_cap_header cap;
		uint32_t beyond;
	} arg = {.info = {.argsz = 39, .cap_offset = 77}, .beyond = 0x5a5a5a5a};
	struct opened o;

	open_both(&o, NULL);
	assert_int_equal(rig_ioctl(&o.rig, o.ioat.device, VFIO_DEVICE_GET_REGION_INFO, &arg), 0);
	assert_int_equal(arg.info.argsz, 40);
	assert_int_equal(arg.info.cap_offset, 0);
	assert_int_equal(arg.cap.id, 0);
	assert_int_equal(rig_ioctl(&o.rig, o.ioat.device, VFIO_DEVICE_GET_REGION_INFO, &arg), 0);
	assert_int_equal(arg.info.cap_offset, 32);
	assert_int_equal(arg.cap.id, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE);
	assert_int_equal(arg.cap.version, 1);
	assert_int_equal(arg.cap.next, 0);
	assert_int_equal(arg.beyond, 0x5a5a5a5a);
	arg.info.argsz = 31;
	assert_int_equal(rig_ioctl(&o.rig, o.ioat.device, VFIO_DEVICE_GET_REGION_INFO, &arg),
			 -EINVAL);
	rig_down(&o.rig);
}

static void test_irq_info(void **state)
{
	enum { E = VFIO_IRQ_INFO_EVENTFD, N = VFIO_IRQ_INFO_NORESIZE };
	static const struct {
		bool ioat;
		uint32_t index;
		long error;
		uint32_t flags, count;
	} rows[] = {
		{false, 0, 0, E | 2 | 4, 1}, {false, 1, 0, E | N, 1}, {false, 2, 0, E | N, 0},
		{false, 3, -EINVAL, 0, 0},   {false, 4, 0, E | N, 1}, {false, 5, -EINVAL, 0, 0},
		{false, ~0u, -EINVAL, 0, 0}, {true, 2, 0, E, 1},      {true, 3, 0, E | N, 1},
		{true, 4, 0, E | N, 1},
	};
	struct opened o;

	open_both(&o, NULL);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct vfio_irq_info info = {.argsz = sizeof(info), .index = rows[i].index};
		int device = rows[i].ioat ? o.ioat.device : o.edu.device;

		assert_int_equal(rig_ioctl(&o.rig, device, VFIO_DEVICE_GET_IRQ_INFO, &info),
				 rows[i].error);
		if (!rows[i].error) {
			assert_int_equal(info.flags, rows[i].flags);
			assert_int_equal(info.count, rows[i].count);
		}
	}
	rig_down(&o.rig);
}

/* ---- configuration space ---- */

static ssize_t config_rw(struct rig *rig, int device, void *buf, size_t len, uint64_t pos, bool w)
{
	uint64_t offset = (UINT64_C(7) << 40) + pos;

	return w ? uiommu_vfio_pwrite(rig_file(rig, device), buf, len, offset)
		 : uiommu_vfio_pread(rig_file(rig, device), buf, len, offset);
}

static void test_config_access(void **state)
{
	uint8_t all[4096], one;
	struct opened o;

	open_both(&o, NULL);
	assert_int_equal(config_rw(&o.rig, o.ioat.device, all, 4096, 0, false), 4096);
	assert_int_equal(config_rw(&o.rig, o.edu.device, all, 256, 0, false), 256);
	assert_int_equal(all[0] | all[1] << 8, 0x1234);
	/* Past the end, wholly or in part, is EFAULT, as in the kernel. */
	assert_int_equal(config_rw(&o.rig, o.edu.device, all, 4096, 0, false), -EFAULT);
	assert_int_equal(config_rw(&o.rig, o.edu.device, all, 2, 255, false), -EFAULT);
	assert_int_equal(config_rw(&o.rig, o.edu.device, all, 1, 256, false), -EFAULT);
	assert_int_equal(config_rw(&o.rig, o.ioat.device, all, 1, 4096, true), -EFAULT);
	assert_int_equal(config_rw(&o.rig, o.ioat.device, all, 0, 1 << 20, true), 0);
	assert_int_equal(config_rw(&o.rig, o.ioat.device, NULL, 4, 0, false), -EFAULT);
	assert_int_equal(config_rw(&o.rig, o.ioat.device, NULL, 4, 4, true), -EFAULT);
	assert_int_equal(config_rw(&o.rig, o.ioat.device, all, (size_t)-1, 0, false), -EINVAL);
	/* Any width at any place gives the same bytes. */
	assert_int_equal(config_rw(&o.rig, o.ioat.device, all, 4096, 0, false), 4096);
	for (unsigned i = 0; i < 4096; i += i < 256 ? 1 : 97) {
		uint8_t some[7];

		assert_int_equal(config_rw(&o.rig, o.ioat.device, &one, 1, i, false), 1);
		assert_int_equal(one, all[i]);
		if (i + 7 > 4096)
			break;
		assert_int_equal(config_rw(&o.rig, o.ioat.device, some, 7, i, false), 7);
		assert_memory_equal(some, all + i, 7);
	}
	rig_down(&o.rig);
}

static void test_command(void **state)
{
	struct uiommu_function *fn;
	struct opened o;
	uint32_t value;

	open_both(&o, NULL);
	fn = uiommu_vfio_file_function(rig_file(&o.rig, o.edu.device));
	/* Open leaves decoding on and bus master off. */
	assert_int_equal(rig_config(&o.rig, o.edu.device, PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
	rig_config_set(&o.rig, o.edu.device, PCI_COMMAND, 2, 0x406);
	assert_int_equal(rig_config(&o.rig, o.edu.device, PCI_COMMAND, 2), 0x406);
	/* INTx disable stays with the user. */
	assert_int_equal(uiommu_function_config_read(fn, PCI_COMMAND, 2), 0x006);
	rig_config_set(&o.rig, o.edu.device, PCI_COMMAND + 1, 1, 0);
	assert_int_equal(rig_config(&o.rig, o.edu.device, PCI_COMMAND, 2), 0x006);
	/* Without memory decoding BARs can't be reached. */
	rig_config_set(&o.rig, o.edu.device, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	assert_int_equal(uiommu_vfio_pread(rig_file(&o.rig, o.edu.device), &value, 4, 0), -EIO);
	assert_int_equal(uiommu_vfio_pwrite(rig_file(&o.rig, o.edu.device), &value, 4, 0), -EIO);
	rig_config_set(&o.rig, o.edu.device, PCI_COMMAND, 4, PCI_COMMAND_MEMORY);
	assert_int_equal(rig_reg(&o.rig, o.edu.device, 0, 0), 0x010000ed);
	/* IDs, status and class can't be written. */
	value = rig_config(&o.rig, o.edu.device, 0, 4);
	rig_config_set(&o.rig, o.edu.device, 0, 4, ~value);
	assert_int_equal(rig_config(&o.rig, o.edu.device, 0, 4), value);
	value = rig_config(&o.rig, o.edu.device, 8, 4);
	rig_config_set(&o.rig, o.edu.device, 8, 4, ~value);
	assert_int_equal(rig_config(&o.rig, o.edu.device, 8, 4), value);
	rig_down(&o.rig);
}

static void test_bar_sizing(void **state)
{
	struct uiommu_function *fn;
	uint32_t low, high, real;
	struct opened o;

	open_both(&o, NULL);
	fn = uiommu_vfio_file_function(rig_file(&o.rig, o.ioat.device));
	real = uiommu_function_config_read(fn, PCI_BASE_ADDRESS_0, 4);
	/* An address was assigned, and is what the user sees first. */
	low = rig_config(&o.rig, o.ioat.device, PCI_BASE_ADDRESS_0, 4);
	high = rig_config(&o.rig, o.ioat.device, PCI_BASE_ADDRESS_1, 4);
	assert_int_equal(low, real);
	assert_true(low & PCI_BASE_ADDRESS_MEM_TYPE_64);
	assert_true((low & ~0xfu) || high);
	rig_config_set(&o.rig, o.ioat.device, PCI_BASE_ADDRESS_0, 4, ~0u);
	rig_config_set(&o.rig, o.ioat.device, PCI_BASE_ADDRESS_1, 4, ~0u);
	assert_int_equal(rig_config(&o.rig, o.ioat.device, PCI_BASE_ADDRESS_0, 4) & ~0xfu,
			 0xffffc000);
	assert_int_equal(rig_config(&o.rig, o.ioat.device, PCI_BASE_ADDRESS_1, 4), ~0u);
	/* By bytes, too. */
	rig_config_set(&o.rig, o.edu.device, PCI_BASE_ADDRESS_0, 4, 0);
	rig_config_set(&o.rig, o.edu.device, PCI_BASE_ADDRESS_0 + 2, 1, 0xff);
	assert_int_equal(rig_config(&o.rig, o.edu.device, PCI_BASE_ADDRESS_0, 4), 0x00f00000);
	/* What isn't there reads 0: other BARs, the ROM. */
	for (unsigned pos = PCI_BASE_ADDRESS_1; pos <= PCI_BASE_ADDRESS_5; pos += 4) {
		rig_config_set(&o.rig, o.edu.device, pos, 4, ~0u);
		assert_int_equal(rig_config(&o.rig, o.edu.device, pos, 4), 0);
	}
	rig_config_set(&o.rig, o.edu.device, PCI_ROM_ADDRESS, 4, ~0u);
	assert_int_equal(rig_config(&o.rig, o.edu.device, PCI_ROM_ADDRESS, 4), 0);
	/* The hardware's stay. */
	assert_int_equal(uiommu_function_config_read(fn, PCI_BASE_ADDRESS_0, 4), real);
	rig_down(&o.rig);
}

static unsigned find_cap(struct rig *rig, int device, unsigned id)
{
	unsigned pos = rig_config(rig, device, PCI_CAPABILITY_LIST, 1);

	for (int steps = 0; pos && steps < 48; steps++) {
		if (rig_config(rig, device, pos, 1) == id)
			return pos;
		pos = rig_config(rig, device, pos + 1, 1);
	}
	return 0;
}

static void test_msi_registers(void **state)
{
	struct uiommu_function *fn;
	struct opened o;
	unsigned msi, msix;

	open_both(&o, NULL);
	fn = uiommu_vfio_file_function(rig_file(&o.rig, o.edu.device));
	msi = find_cap(&o.rig, o.edu.device, PCI_CAP_ID_MSI);
	assert_true(msi);
	/* Address and data are the user's own; the hardware never sees them. */
	rig_config_set(&o.rig, o.edu.device, msi + PCI_MSI_ADDRESS_LO, 4, 0xfee12344);
	rig_config_set(&o.rig, o.edu.device, msi + PCI_MSI_DATA_64, 2, 0x4321);
	assert_int_equal(rig_config(&o.rig, o.edu.device, msi + PCI_MSI_ADDRESS_LO, 4), 0xfee12344);
	assert_int_equal(rig_config(&o.rig, o.edu.device, msi + PCI_MSI_DATA_64, 2), 0x4321);
	assert_int_equal(uiommu_function_config_read(fn, msi + PCI_MSI_ADDRESS_LO, 4), 0);
	assert_int_equal(uiommu_function_config_read(fn, msi + PCI_MSI_DATA_64, 2), 0);
	/* Enable does nothing before SET_IRQS. */
	rig_config_set(&o.rig, o.edu.device, msi + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | 0x70);
	assert_int_equal(rig_config(&o.rig, o.edu.device, msi + PCI_MSI_FLAGS, 2) & 0x71, 0);
	assert_int_equal(uiommu_function_config_read(fn, msi + PCI_MSI_FLAGS, 2) & 0x71, 0);
	/* The low byte is the user's own, and clamped; recorded from Linux. */
	rig_config_set(&o.rig, o.edu.device, msi + PCI_MSI_FLAGS, 1, 0);
	assert_int_equal(rig_config(&o.rig, o.edu.device, msi + PCI_MSI_FLAGS, 2), 0);
	rig_config_set(&o.rig, o.edu.device, msi + PCI_MSI_FLAGS, 1, 0xff);
	assert_int_equal(rig_config(&o.rig, o.edu.device, msi + PCI_MSI_FLAGS, 2), 0x8e);
	/* MSI-X control is read-only. */
	msix = find_cap(&o.rig, o.ioat.device, PCI_CAP_ID_MSIX);
	assert_true(msix);
	rig_config_set(&o.rig, o.ioat.device, msix + PCI_MSIX_FLAGS, 2, 0xc000);
	assert_int_equal(rig_config(&o.rig, o.ioat.device, msix + PCI_MSIX_FLAGS, 2) & 0xc000, 0);
	rig_down(&o.rig);
}

static void test_power(void **state)
{
	struct opened o;
	unsigned pm;
	uint32_t value;

	open_both(&o, NULL);
	pm = find_cap(&o.rig, o.ioat.device, PCI_CAP_ID_PM);
	assert_true(pm);
	/* No power events for users. */
	assert_int_equal(
		rig_config(&o.rig, o.ioat.device, pm + PCI_PM_PMC, 2) & PCI_PM_CAP_PME_MASK, 0);
	rig_config_set(&o.rig, o.ioat.device, pm + PCI_PM_CTRL, 2, 3);
	assert_int_equal(rig_config(&o.rig, o.ioat.device, pm + PCI_PM_CTRL, 2) & 3, 3);
	assert_int_equal(uiommu_vfio_pread(rig_file(&o.rig, o.ioat.device), &value, 4, 0), -EIO);
	rig_config_set(&o.rig, o.ioat.device, pm + PCI_PM_CTRL, 2, 0);
	assert_int_equal(rig_config(&o.rig, o.ioat.device, pm + PCI_PM_CTRL, 2) & 3, 0);
	assert_int_equal(rig_reg(&o.rig, o.ioat.device, 0, 0) & 0xff, 1);
	rig_down(&o.rig);
}

/* FLR: the device forgets, what the user's and the host's configuration was stays. */
static void check_after_reset(struct opened *o)
{
	assert_int_equal(rig_config(&o->rig, o->ioat.device, PCI_COMMAND, 2),
			 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(rig_config(&o->rig, o->ioat.device, PCI_INTERRUPT_LINE, 1), 0x2b);
	/* chainaddr of the channel */
	assert_int_equal(rig_reg(&o->rig, o->ioat.device, 0, 0x90), 0);
}

static void before_reset(struct opened *o)
{
	rig_config_set(&o->rig, o->ioat.device, PCI_COMMAND, 2,
		       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	rig_config_set(&o->rig, o->ioat.device, PCI_INTERRUPT_LINE, 1, 0x2b);
	rig_reg_set(&o->rig, o->ioat.device, 0, 0x90, 0x12340040);
	assert_int_equal(rig_reg(&o->rig, o->ioat.device, 0, 0x90), 0x12340040);
}

static void test_reset(void **state)
{
	struct opened o;
	unsigned express;

	open_both(&o, NULL);
	before_reset(&o);
	assert_int_equal(rig_ioctl(&o.rig, o.ioat.device, VFIO_DEVICE_RESET, NULL), 0);
	check_after_reset(&o);
	before_reset(&o);
	express = find_cap(&o.rig, o.ioat.device, PCI_CAP_ID_EXP);
	assert_true(express);
	rig_config_set(&o.rig, o.ioat.device, express + PCI_EXP_DEVCTL, 2,
		       PCI_EXP_DEVCTL_BCR_FLR |
			       rig_config(&o.rig, o.ioat.device, express + PCI_EXP_DEVCTL, 2));
	check_after_reset(&o);
	assert_int_equal(rig_config(&o.rig, o.ioat.device, express + PCI_EXP_DEVCTL, 2) &
				 PCI_EXP_DEVCTL_BCR_FLR,
			 0);
	assert_int_equal(rig_ioctl(&o.rig, o.edu.device, VFIO_DEVICE_RESET, NULL), -EINVAL);
	assert_int_equal(o.rig.refused.rule, UIOMMU_RULE_UNSUPPORTED);
	rig_down(&o.rig);
}

/* An open device starts anew: reset if it can be, never a bus master. */
static void test_reopen(void **state)
{
	struct opened o;

	open_both(&o, NULL);
	before_reset(&o);
	rig_config_set(&o.rig, o.edu.device, PCI_COMMAND, 2, 0x406);
	rig_close(&o.rig, o.ioat.device);
	rig_close(&o.rig, o.edu.device);
	o.ioat.device = rig_ioctl(&o.rig, o.ioat.group, VFIO_GROUP_GET_DEVICE_FD, IOAT);
	o.edu.device = rig_ioctl(&o.rig, o.edu.group, VFIO_GROUP_GET_DEVICE_FD, EDU);
	assert_int_equal(rig_config(&o.rig, o.ioat.device, PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
	assert_int_equal(rig_config(&o.rig, o.edu.device, PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
	assert_int_equal(rig_reg(&o.rig, o.ioat.device, 0, 0x90), 0);
	rig_down(&o.rig);
}

static void test_extended_capabilities(void **state)
{
	struct opened o;
	uint32_t head;

	open_both(&o, NULL);
	head = rig_config(&o.rig, o.ioat.device, 256, 4);
	if (head) {
		assert_int_equal(PCI_EXT_CAP_ID(head), PCI_EXT_CAP_ID_DSN);
		rig_config_set(&o.rig, o.ioat.device, 256, 4, ~head);
		assert_int_equal(rig_config(&o.rig, o.ioat.device, 256, 4), head);
	}
	rig_down(&o.rig);
}

/* ---- BARs ---- */

static void test_bar_rw(void **state)
{
	struct opened o;
	struct uiommu_vfio_file *edu, *ioat;
	uint8_t bytes[0x4000];
	uint32_t value;

	open_both(&o, NULL);
	edu = rig_file(&o.rig, o.edu.device);
	ioat = rig_file(&o.rig, o.ioat.device);
	rig_reg_set(&o.rig, o.edu.device, 0, 4, 0x12345678);
	assert_int_equal(rig_reg(&o.rig, o.edu.device, 0, 4), ~0x12345678u);
	/* Reads end with the BAR; past it, and where there is none, EINVAL. */
	assert_int_equal(uiommu_vfio_pread(edu, bytes, 16, 0xffff8), 8);
	assert_int_equal(uiommu_vfio_pread(edu, bytes, 4, 0x100000), -EINVAL);
	assert_int_equal(uiommu_vfio_pread(edu, bytes, 4, UINT64_C(1) << 40), -EINVAL);
	assert_int_equal(uiommu_vfio_pread(edu, bytes, 4, UINT64_C(6) << 40), -EINVAL);
	assert_int_equal(uiommu_vfio_pwrite(edu, bytes, 4, UINT64_C(6) << 40), -EINVAL);
	assert_int_equal(uiommu_vfio_pread(edu, bytes, 4, UINT64_C(8) << 40), -EINVAL);
	assert_int_equal(uiommu_vfio_pread(edu, bytes, 4, UINT64_C(9) << 40), -EINVAL);
	assert_int_equal(uiommu_vfio_pread(edu, bytes, 4, UINT64_C(1) << 63), -EINVAL);
	assert_int_equal(uiommu_vfio_pread(edu, bytes, 0, UINT64_C(9) << 40), 0);
	assert_int_equal(uiommu_vfio_pread(edu, NULL, 4, 0), -EFAULT);
	assert_int_equal(uiommu_vfio_pwrite(edu, NULL, 4, 4), -EFAULT);
	assert_int_equal(uiommu_vfio_pread(rig_file(&o.rig, o.edu.group), bytes, 4, 0), -EINVAL);
	assert_int_equal(uiommu_vfio_pread(rig_file(&o.rig, o.edu.container), bytes, 4, 0),
			 -EINVAL);
	/* A read of the whole BAR, at once. */
	assert_int_equal(uiommu_vfio_pread(ioat, bytes, sizeof(bytes), 0), sizeof(bytes));
	assert_int_equal(bytes[8], rig_reg(&o.rig, o.ioat.device, 0, 8) & 0xff);
	/* The MSI-X table reads as ones and takes nothing. */
	value = 0x1234;
	assert_int_equal(uiommu_vfio_pread(ioat, bytes, 16, 0x2000), 16);
	for (int i = 0; i < 16; i++)
		assert_int_equal(bytes[i], 0xff);
	/* It does so without memory decoding too, for the device isn't asked. */
	rig_config_set(&o.rig, o.ioat.device, PCI_COMMAND, 2, 0);
	memset(bytes, 0, 16);
	assert_int_equal(uiommu_vfio_pread(ioat, bytes, 16, 0x2000), 16);
	assert_int_equal(bytes[15], 0xff);
	assert_int_equal(uiommu_vfio_pwrite(ioat, bytes, 16, 0x2000), 16);
	assert_int_equal(uiommu_vfio_pread(ioat, bytes, 16, 0x1ff8), -EIO);
	rig_config_set(&o.rig, o.ioat.device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(uiommu_vfio_pwrite(ioat, &value, 4, 0x2008), 4);
	assert_int_equal(
		uiommu_function_bar_read(uiommu_vfio_file_function(ioat), 0, 0x2008, &value, 4), 0);
	assert_int_equal(value, 0);
	rig_down(&o.rig);
}

static void test_mmap(void **state)
{
	static const struct {
		uint64_t length, offset;
		int flags;
		int error;
	} rows[] = {
		{0x100000, 0, MAP_SHARED, 0},
		{0x1000, 0xff000, MAP_SHARED, 0},
		{1, 0xff000, MAP_SHARED, 0},
		{0x1001, 0xff000, MAP_SHARED, -EINVAL},
		{0x100001, 0, MAP_SHARED, -EINVAL},
		{0x1000, 0x100000, MAP_SHARED, -EINVAL},
		{0x1000, 0x800, MAP_SHARED, -EINVAL},
		{0x1000, 0, MAP_PRIVATE, -EINVAL},
		{0, 0, MAP_SHARED, -EINVAL},
		{SIZE_MAX, 0x1000, MAP_SHARED, -EINVAL},
		{0x1000, UINT64_C(1) << 40, MAP_SHARED, -EINVAL},
		{0x1000, UINT64_C(6) << 40, MAP_SHARED, -EINVAL},
		{0x100, UINT64_C(7) << 40, MAP_SHARED, -EINVAL},
		{0x1000, UINT64_C(9) << 40, MAP_SHARED, -EINVAL},
		{0x1000, 0xfffffffffffff000, MAP_SHARED, -EINVAL},
	};
	struct uiommu_vfio_mapping m;
	struct opened o;

	open_both(&o, NULL);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int ret =
			uiommu_vfio_mmap(rig_file(&o.rig, o.edu.device), rows[i].length,
					 PROT_READ | PROT_WRITE, rows[i].flags, rows[i].offset, &m);

		if (ret != rows[i].error)
			fail_msg("row %zu: %d", i, ret);
		if (ret)
			continue;
		assert_ptr_equal(m.function, uiommu_machine_find(o.rig.machine, EDU));
		assert_int_equal(m.bar, 0);
		assert_int_equal(m.offset, rows[i].offset);
		assert_int_equal(m.fd, uiommu_function_fd(m.function));
		assert_int_equal(m.fd_offset, rows[i].offset);
	}
	assert_true(uiommu_vfio_mmap(rig_file(&o.rig, o.edu.group), 4096, 1, MAP_SHARED, 0, &m) <
		    0);
	rig_down(&o.rig);
}

/* ---- hot reset ---- */

struct hot_reset {
	uint32_t argsz, flags, count;
	int32_t fds[4];
};

static void test_hot_reset_root_bus(void **state)
{
	struct vfio_pci_hot_reset_info info = {.argsz = sizeof(info)};
	struct hot_reset reset = {.argsz = 16, .count = 1};
	struct opened o;

	open_both(&o, NULL);
	reset.fds[0] = o.ioat.group;
	assert_int_equal(
		rig_ioctl(&o.rig, o.ioat.device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info),
		-ENODEV);
	assert_int_equal(rig_ioctl(&o.rig, o.ioat.device, VFIO_DEVICE_PCI_HOT_RESET, &reset),
			 -ENODEV);
	rig_down(&o.rig);
}

static const char *const shared_bus[] = {"ioat@03:00.0,group=4", "edu@03:01.0,group=5",
					 "edu@04:00.0,group=6", NULL};

static void test_hot_reset_info(void **state)
{
	struct rig_options options = {.functions = shared_bus};
	struct {
		struct vfio_pci_hot_reset_info head;
		struct vfio_pci_dependent_device devices[2];
	} arg = {.head = {.argsz = sizeof(arg.head), .flags = 7}};
	struct rig rig;
	struct session s;

	assert_true(rig_up(&rig, &options));
	s = rig_session(&rig, 4, VFIO_TYPE1v2_IOMMU, "0000:03:00.0");
	assert_int_equal(rig_ioctl(&rig, s.device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &arg),
			 -ENOSPC);
	assert_int_equal(arg.head.count, 2);
	arg.head.argsz = sizeof(arg) - 1;
	assert_int_equal(rig_ioctl(&rig, s.device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &arg),
			 -ENOSPC);
	arg.head.argsz = sizeof(arg);
	assert_int_equal(rig_ioctl(&rig, s.device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &arg), 0);
	assert_int_equal(arg.head.count, 2);
	assert_int_equal(arg.head.flags, 0);
	assert_int_equal(arg.devices[0].group_id, 4);
	assert_int_equal(arg.devices[0].bus, 3);
	assert_int_equal(arg.devices[0].devfn, 0);
	assert_int_equal(arg.devices[1].group_id, 5);
	assert_int_equal(arg.devices[1].devfn, 8);
	arg.head.argsz = sizeof(arg.head) - 1;
	assert_int_equal(rig_ioctl(&rig, s.device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &arg),
			 -EINVAL);
	rig_down(&rig);
}

static void test_hot_reset(void **state)
{
	struct rig_options options = {.functions = shared_bus};
	struct hot_reset reset = {.argsz = sizeof(reset)};
	struct session s, other, alone;
	struct rig rig;

	assert_true(rig_up(&rig, &options));
	s = rig_session(&rig, 4, VFIO_TYPE1v2_IOMMU, "0000:03:00.0");
	other = rig_session(&rig, 5, VFIO_TYPE1v2_IOMMU, "0000:03:01.0");
	alone = rig_session(&rig, 6, VFIO_TYPE1v2_IOMMU, "0000:04:00.0");
	rig_reg_set(&rig, s.device, 0, 0x90, 0x1240);
	rig_reg_set(&rig, other.device, 0, 4, 0x11111111);

	assert_int_equal(rig_ioctl(&rig, s.device, VFIO_DEVICE_PCI_HOT_RESET, &reset), -EINVAL);
	reset.count = 1;
	reset.fds[0] = s.group;
	assert_int_equal(rig_ioctl(&rig, s.device, VFIO_DEVICE_PCI_HOT_RESET, &reset), -EINVAL);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_VIABLE);
	reset.count = 3;
	assert_int_equal(rig_ioctl(&rig, s.device, VFIO_DEVICE_PCI_HOT_RESET, &reset), -EINVAL);
	reset.count = 2;
	reset.fds[1] = 999999;
	assert_int_equal(rig_ioctl(&rig, s.device, VFIO_DEVICE_PCI_HOT_RESET, &reset), -EBADF);
	reset.fds[1] = other.container;
	assert_int_equal(rig_ioctl(&rig, s.device, VFIO_DEVICE_PCI_HOT_RESET, &reset), -EINVAL);
	reset.fds[1] = other.group;
	reset.flags = 1;
	assert_int_equal(rig_ioctl(&rig, s.device, VFIO_DEVICE_PCI_HOT_RESET, &reset), -EINVAL);
	assert_int_equal(rig_reg(&rig, s.device, 0, 0x90), 0x1240);
	reset.flags = 0;
	assert_int_equal(rig_ioctl(&rig, s.device, VFIO_DEVICE_PCI_HOT_RESET, &reset), 0);
	assert_int_equal(rig_reg(&rig, s.device, 0, 0x90), 0);
	assert_int_equal(rig_reg(&rig, other.device, 0, 4), 0);
	assert_int_equal(rig_reg(&rig, other.device, 0, 0), 0x010000ed);
	/* A function without a reset of its own, alone on its bus, is reset through that. */
	rig_reg_set(&rig, alone.device, 0, 4, 0x11111111);
	assert_int_equal(rig_ioctl(&rig, alone.device, VFIO_DEVICE_RESET, NULL), 0);
	assert_int_equal(rig_reg(&rig, alone.device, 0, 4), 0);
	/* The other shares its bus. */
	assert_int_equal(rig_ioctl(&rig, other.device, VFIO_DEVICE_RESET, NULL), -EINVAL);
	rig_down(&rig);
}

static void test_hot_reset_foreign(void **state)
{
	static const char *const functions[] = {"ioat@03:00.0,group=4",
						"edu@03:01.0,group=5,driver=pci-stub", NULL};
	struct rig_options options = {.functions = functions};
	struct hot_reset reset = {.argsz = sizeof(reset), .count = 1};
	struct rig rig;
	struct session s;

	assert_true(rig_up(&rig, &options));
	s = rig_session(&rig, 4, VFIO_TYPE1v2_IOMMU, "0000:03:00.0");
	reset.fds[0] = s.group;
	assert_int_equal(rig_ioctl(&rig, s.device, VFIO_DEVICE_PCI_HOT_RESET, &reset), -EINVAL);
	rig_down(&rig);
}

/* When the last user of a bus has gone, a function without a reset is reset with it. */
static void test_bus_reset_on_close(void **state)
{
	struct rig_options options = {.functions = shared_bus};
	struct session s, other;
	struct rig rig;

	assert_true(rig_up(&rig, &options));
	s = rig_session(&rig, 4, VFIO_TYPE1v2_IOMMU, "0000:03:00.0");
	other = rig_session(&rig, 5, VFIO_TYPE1v2_IOMMU, "0000:03:01.0");
	rig_reg_set(&rig, other.device, 0, 4, 0x11111111);
	rig_close(&rig, s.device);
	assert_int_equal(rig_reg(&rig, other.device, 0, 4), ~0x11111111u);
	rig_close(&rig, other.device);
	other.device = rig_ioctl(&rig, other.group, VFIO_GROUP_GET_DEVICE_FD, "0000:03:01.0");
	assert_int_equal(rig_reg(&rig, other.device, 0, 4), 0);
	/* And if the last one to go is a function that has a reset of its own. */
	s.device = rig_ioctl(&rig, s.group, VFIO_GROUP_GET_DEVICE_FD, "0000:03:00.0");
	rig_reg_set(&rig, other.device, 0, 4, 0x22222222);
	rig_close(&rig, other.device);
	rig_close(&rig, s.device);
	other.device = rig_ioctl(&rig, other.group, VFIO_GROUP_GET_DEVICE_FD, "0000:03:01.0");
	assert_int_equal(rig_reg(&rig, other.device, 0, 4), 0);
	rig_down(&rig);
}

/* ---- VFIO_DEVICE_FEATURE ---- */

static void test_feature(void **state)
{
	enum { GET = 1 << 16, SET = 1 << 17, PROBE = 1 << 18 };
	static const struct {
		const char *name;
		uint32_t argsz, flags;
		long error;
	} rows[] = {
		{"short", 7, PROBE, -EINVAL},
		{"unknown flag", 8, 1 << 19 | PROBE, -EINVAL},
		{"get and set", 8, GET | SET | 3, -EINVAL},
		{"token of no virtual function", 8, PROBE | 0, -ENOTTY},
		{"migration", 8, PROBE | GET | 1, -ENOTTY},
		{"migration state", 8, GET | 2, -ENOTTY},
		{"logging", 8, PROBE | SET | 6, -ENOTTY},
		{"precopy", 8, PROBE | 12, -EINVAL},
		{"precopy: set", 8, SET | 12, -EINVAL},
		{"beyond", 8, PROBE | 0xffff, -ENOTTY},
		{"low power: probe", 8, PROBE | 3, 0},
		{"low power: probe set", 8, PROBE | SET | 3, 0},
		{"low power: probe get", 8, PROBE | GET | 3, -EINVAL},
		{"low power: neither", 8, 3, -EINVAL},
		{"low power: get", 8, GET | 3, -EINVAL},
		{"low power", 8, SET | 3, 0},
		{"low power again", 8, SET | 3, -EINVAL},
		{"exit", 8, SET | 5, 0},
		{"exit again", 8, SET | 5, 0},
		{"wake-up without data", 8, SET | 4, -EINVAL},
	};
	struct opened o;

	open_both(&o, NULL);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint32_t words[2] = {rows[i].argsz, rows[i].flags};
		long ret = rig_ioctl(&o.rig, o.ioat.device, VFIO_DEVICE_FEATURE, words);

		if (ret != rows[i].error)
			fail_msg("%s: %ld", rows[i].name, ret);
	}
	rig_down(&o.rig);
}

static void test_low_power_wakeup(void **state)
{
	enum { SET = 1 << 17 };
	struct {
		uint32_t argsz, flags;
		int32_t eventfd;
		uint32_t reserved;
	} arg;
	struct opened o;
	int event = eventfd(0, EFD_NONBLOCK);

	open_both(&o, NULL);
	arg.argsz = sizeof(arg);
	arg.flags = SET | 4;
	arg.eventfd = -1;
	assert_int_equal(rig_ioctl(&o.rig, o.ioat.device, VFIO_DEVICE_FEATURE, &arg), -EINVAL);
	arg.eventfd = 999999;
	assert_int_equal(rig_ioctl(&o.rig, o.ioat.device, VFIO_DEVICE_FEATURE, &arg), -EBADF);
	arg.eventfd = STDIN_FILENO;
	assert_int_equal(rig_ioctl(&o.rig, o.ioat.device, VFIO_DEVICE_FEATURE, &arg), -EINVAL);
	arg.eventfd = event;
	assert_int_equal(rig_ioctl(&o.rig, o.ioat.device, VFIO_DEVICE_FEATURE, &arg), 0);
	assert_int_equal(rig_wait(event, 0), 0);
	/* Any access wakes it, and tells. */
	rig_config(&o.rig, o.ioat.device, 0, 4);
	assert_int_equal(rig_wait(event, 0), 1);
	rig_config(&o.rig, o.ioat.device, 0, 4);
	assert_int_equal(rig_wait(event, 0), 0);
	assert_int_equal(rig_ioctl(&o.rig, o.ioat.device, VFIO_DEVICE_FEATURE, &arg), 0);
	rig_down(&o.rig);
	assert_int_equal(o.rig.eventfds, 0);
	close(event);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_info),
		cmocka_unit_test(test_regions),
		cmocka_unit_test(test_region_capability),
		cmocka_unit_test(test_irq_info),
		cmocka_unit_test(test_config_access),
		cmocka_unit_test(test_command),
		cmocka_unit_test(test_bar_sizing),
		cmocka_unit_test(test_msi_registers),
		cmocka_unit_test(test_power),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_reopen),
		cmocka_unit_test(test_extended_capabilities),
		cmocka_unit_test(test_bar_rw),
		cmocka_unit_test(test_mmap),
		cmocka_unit_test(test_hot_reset_root_bus),
		cmocka_unit_test(test_hot_reset_info),
		cmocka_unit_test(test_hot_reset),
		cmocka_unit_test(test_hot_reset_foreign),
		cmocka_unit_test(test_bus_reset_on_close),
		cmocka_unit_test(test_feature),
		cmocka_unit_test(test_low_power_wakeup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
