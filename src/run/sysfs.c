/* SPDX-License-Identifier: MIT */
/*
 * Owns what goes into the tree: for each function, group, driver and IOMMU the files that Linux 7.2
 * has (Documentation/ABI/testing/sysfs-bus-pci, sysfs-kernel-iommu_groups,
 * sysfs-class-iommu-intel-iommu), as far as VFIO programs look. Files are snapshots: what is
 * written to them is kept and has no effect. Stateless.
 */
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run/tree.h"
#include "run/tree_private.h"

#define DRIVERS "/sys/bus/pci/drivers"
/* Where firmware places small BARs, and wide ones. */
#define FIRST_BAR      UINT64_C(0xc0000000)
#define FIRST_WIDE_BAR UINT64_C(0x4000000000)
#define WIDE_FROM      UINT64_C(0x1000000)

/* Bits of a resource's flags as sysfs prints them. */
#define RESOURCE_MEMORY	  UINT64_C(0x200)
#define RESOURCE_PREFETCH UINT64_C(0x2000)
#define RESOURCE_64	  UINT64_C(0x100000)
#define RESOURCE_ALIGNED  UINT64_C(0x40000)
#define RESOURCES	  13

struct builder {
	struct run_tree *tree;
	const struct run_config *config;
	const struct uiommu_platform_facts *facts;
	char iommu[RUN_PATH / 2];     /* directory of the IOMMU's device; empty: there is none */
	uint64_t next_bar, next_wide; /* where the next BAR is placed */
	unsigned next_irq;
	unsigned next_node; /* number of the next device's own node */
};

static bool has_iommu(const struct builder *b)
{
	return b->facts->vfio_types != UIOMMU_VFIO_NOIOMMU;
}

/* Without an IOMMU only VFIO makes groups, for what it holds. */
static bool has_group(const struct builder *b, const struct uiommu_function_info *info)
{
	return has_iommu(b) || !strcmp(info->driver, "vfio-pci");
}

static void device_path(const struct uiommu_function_info *info, char *buf)
{
	snprintf(buf, RUN_PATH, "/sys/devices/pci%.7s/%s", info->name, info->name);
}

/* ---- a function ---------------------------------------------------------------------------- */

static void identity_files(struct builder *b, const struct uiommu_function_info *info,
			   const char *dir)
{
	const struct uiommu_model *model = info->model;
	char alias[96];

	snprintf(alias, sizeof(alias), "pci:v%08Xd%08Xsv%08Xsd%08Xbc%02Xsc%02Xi%02X", model->vendor,
		 model->device, model->subsystem_vendor, model->subsystem_device,
		 model->class_code >> 16 & 0xff, model->class_code >> 8 & 0xff,
		 model->class_code & 0xff);
	tree_file(b->tree, dir, "vendor", 0444, "0x%04x\n", model->vendor);
	tree_file(b->tree, dir, "device", 0444, "0x%04x\n", model->device);
	tree_file(b->tree, dir, "subsystem_vendor", 0444, "0x%04x\n", model->subsystem_vendor);
	tree_file(b->tree, dir, "subsystem_device", 0444, "0x%04x\n", model->subsystem_device);
	tree_file(b->tree, dir, "class", 0444, "0x%06x\n", model->class_code);
	tree_file(b->tree, dir, "revision", 0444, "0x%02x\n", model->revision);
	tree_file(b->tree, dir, "modalias", 0444, "%s\n", alias);
	tree_file(b->tree, dir, "uevent", 0644,
		  "DRIVER=%s\nPCI_CLASS=%X\nPCI_ID=%04X:%04X\nPCI_SUBSYS_ID=%04X:%04X\n"
		  "PCI_SLOT_NAME=%s\nMODALIAS=%s\n",
		  info->driver, model->class_code, model->vendor, model->device,
		  model->subsystem_vendor, model->subsystem_device, info->name, alias);
}

static void state_files(struct builder *b, const struct uiommu_function_info *info, const char *dir)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);

	tree_file(b->tree, dir, "numa_node", 0644, "0\n");
	tree_file(b->tree, dir, "irq", 0444, "%u\n", b->next_irq++);
	tree_file(b->tree, dir, "enable", 0644, "1\n");
	tree_file(b->tree, dir, "msi_bus", 0644, "1\n");
	tree_file(b->tree, dir, "broken_parity_status", 0644, "0\n");
	tree_file(b->tree, dir, "d3cold_allowed", 0644, "1\n");
	tree_file(b->tree, dir, "power_state", 0444, "D0\n");
	tree_file(b->tree, dir, "ari_enabled", 0444, "0\n");
	tree_file(b->tree, dir, "dma_mask_bits", 0444, "64\n");
	tree_file(b->tree, dir, "consistent_dma_mask_bits", 0444, "64\n");
	tree_file(b->tree, dir, "local_cpulist", 0444, "0-%ld\n", cpus > 1 ? cpus - 1 : 0);
	tree_file(b->tree, dir, "local_cpus", 0444, "%lx\n",
		  cpus > 0 && cpus < 64 ? (1UL << cpus) - 1 : ~0UL);
	tree_file(b->tree, dir, "driver_override", 0644, "%s\n", info->driver);
	tree_file(b->tree, dir, "rescan", 0200, "%s", "");
	tree_file(b->tree, dir, "remove", 0200, "%s", "");
	if (info->flr) {
		tree_file(b->tree, dir, "reset", 0200, "%s", "");
		tree_file(b->tree, dir, "reset_method", 0644, "flr bus\n");
	}
}

/* Place the BARs one after the other, each aligned to its size, as firmware would. */
static void place_bars(struct builder *b, const struct uiommu_model *model,
		       uint64_t where[UIOMMU_BARS])
{
	for (unsigned i = 0; i < UIOMMU_BARS; i++) {
		uint64_t size = model->bars[i].size;
		bool wide = size >= WIDE_FROM && model->bars[i].flags & UIOMMU_BAR_64;
		uint64_t *next = wide ? &b->next_wide : &b->next_bar;

		where[i] = 0;
		if (!size)
			continue;
		where[i] = (*next + size - 1) & ~(size - 1);
		*next = where[i] + size;
	}
}

static void resource_file(struct builder *b, const struct uiommu_model *model, const char *dir,
			  const uint64_t where[UIOMMU_BARS])
{
	char text[RESOURCES * 64] = "";
	size_t used = 0;

	for (unsigned i = 0; i < RESOURCES; i++) {
		const struct uiommu_bar *bar = i < UIOMMU_BARS ? &model->bars[i] : NULL;
		uint64_t flags = 0, last = 0;

		if (bar && bar->size) {
			last = where[i] + bar->size - 1;
			flags = RESOURCE_MEMORY | RESOURCE_ALIGNED |
				(bar->flags & UIOMMU_BAR_64
					 ? RESOURCE_64 | PCI_BASE_ADDRESS_MEM_TYPE_64
					 : 0) |
				(bar->flags & UIOMMU_BAR_PREFETCH
					 ? RESOURCE_PREFETCH | PCI_BASE_ADDRESS_MEM_PREFETCH
					 : 0);
		}
		used += (size_t)snprintf(text + used, sizeof(text) - used,
					 "0x%016llx 0x%016llx 0x%016llx\n",
					 (unsigned long long)(last ? where[i] : 0),
					 (unsigned long long)last, (unsigned long long)flags);
	}
	tree_file(b->tree, dir, "resource", 0444, "%s", text);
}

/* Configuration space as it is after firmware has placed the BARs. */
static void config_file(struct builder *b, struct uiommu_function *fn,
			const struct uiommu_function_info *info, const char *dir,
			const uint64_t where[UIOMMU_BARS])
{
	unsigned char config[4096];
	char path[RUN_PATH * 2];
	unsigned size = info->config_size < sizeof(config) ? info->config_size : sizeof(config);

	for (unsigned at = 0; at < size; at += 4) {
		uint32_t value = uiommu_function_config_read(fn, at, 4);
		unsigned bar = (at - PCI_BASE_ADDRESS_0) / 4;

		if (at >= PCI_BASE_ADDRESS_0 && bar < UIOMMU_BARS) {
			if (where[bar])
				value = (uint32_t)where[bar] | (value & 15);
			else if (bar && where[bar - 1] &&
				 info->model->bars[bar - 1].flags & UIOMMU_BAR_64)
				value = (uint32_t)(where[bar - 1] >> 32);
		}
		memcpy(config + at, &value, 4);
	}
	config[PCI_COMMAND] |= PCI_COMMAND_MEMORY;
	snprintf(path, sizeof(path), "%s/config", dir);
	tree_bytes(b->tree, path, 0644, config, size);
}

static void function_links(struct builder *b, const struct uiommu_function_info *info,
			   const char *dir)
{
	char from[RUN_PATH * 2], to[RUN_PATH];

	snprintf(from, sizeof(from), "%s/driver", dir);
	snprintf(to, sizeof(to), DRIVERS "/%.64s", info->driver);
	tree_link(b->tree, from, to);
	snprintf(from, sizeof(from), "%s/subsystem", dir);
	tree_link(b->tree, from, "/sys/bus/pci");
	snprintf(from, sizeof(from), "/sys/bus/pci/devices/%s", info->name);
	tree_link(b->tree, from, dir);
	snprintf(from, sizeof(from), DRIVERS "/%.64s/%s", info->driver, info->name);
	tree_link(b->tree, from, dir);
	if (has_group(b, info)) {
		snprintf(to, sizeof(to), "/sys/kernel/iommu_groups/%u", info->group);
		snprintf(from, sizeof(from), "%s/iommu_group", dir);
		tree_link(b->tree, from, to);
		snprintf(from, sizeof(from), "%s/devices/%s", to, info->name);
		tree_link(b->tree, from, dir);
	}
	if (!b->iommu[0])
		return;
	snprintf(from, sizeof(from), "%s/iommu", dir);
	tree_link(b->tree, from, b->iommu);
	snprintf(from, sizeof(from), "%s/devices/%s", b->iommu, info->name);
	tree_link(b->tree, from, dir);
}

/* Does the machine show /dev/iommu and a node of each device's own? */
static bool has_iommufd(const struct builder *b)
{
	return b->config->iommufd != RUN_IOMMUFD_OFF && (b->facts->vfio_types & UIOMMU_VFIO_TYPE1);
}

/* /dev/vfio/devices/vfioN, and what says which device that is. In 2021 the name said it. */
static void add_device_node(struct builder *b, const char *device, const char *address)
{
	char name[32], path[RUN_PATH], from[RUN_PATH * 2];
	unsigned number = b->next_node++;

	if (b->config->iommufd == RUN_IOMMUFD_RFC) {
		tree_file(b->tree, "/dev/vfio/devices", address, 0666, "%s", "");
		return;
	}
	snprintf(name, sizeof(name), "vfio%u", number);
	tree_file(b->tree, "/dev/vfio/devices", name, 0666, "%s", "");
	snprintf(path, sizeof(path), "%.200s/vfio-dev/%s", device, name);
	tree_file(b->tree, path, "dev", 0444, "%u:%u\n", RUN_NODE_MAJOR, number);
	tree_file(b->tree, path, "uevent", 0644, "MAJOR=%u\nMINOR=%u\nDEVNAME=vfio/devices/%s\n",
		  RUN_NODE_MAJOR, number, name);
	snprintf(from, sizeof(from), "%s/device", path);
	tree_link(b->tree, from, device);
	snprintf(from, sizeof(from), "%s/subsystem", path);
	tree_link(b->tree, from, "/sys/class/vfio-dev");
	snprintf(from, sizeof(from), "/sys/class/vfio-dev/%s", name);
	tree_link(b->tree, from, path);
}

static void add_function(struct builder *b, struct uiommu_function *fn)
{
	const struct uiommu_function_info *info = uiommu_function_info(fn);
	uint64_t where[UIOMMU_BARS];
	char dir[RUN_PATH];

	device_path(info, dir);
	tree_directory(b->tree, dir);
	identity_files(b, info, dir);
	state_files(b, info, dir);
	place_bars(b, info->model, where);
	resource_file(b, info->model, dir, where);
	config_file(b, fn, info, dir, where);
	function_links(b, info, dir);
	if (has_iommufd(b) && !strcmp(info->driver, "vfio-pci"))
		add_device_node(b, dir, info->name);
}

/* ---- groups, drivers ----------------------------------------------------------------------- */

static void reserved_regions(struct builder *b, const char *dir)
{
	char text[1024] = "";
	size_t used = 0;

	for (size_t i = 0; i < b->facts->region_count && used < sizeof(text) - 64; i++) {
		const struct uiommu_resv_region *region = &b->facts->regions[i];

		used += (size_t)snprintf(
			text + used, sizeof(text) - used, "0x%016llx 0x%016llx %s\n",
			(unsigned long long)region->range.first,
			(unsigned long long)region->range.last, uiommu_resv_name(region->type));
	}
	tree_file(b->tree, dir, "reserved_regions", 0444, "%s", text);
}

static void add_group(struct builder *b, unsigned number)
{
	char dir[RUN_PATH];

	snprintf(dir, sizeof(dir), "/sys/kernel/iommu_groups/%u", number);
	if (run_tree_find(b->tree, dir))
		return;
	tree_directory(b->tree, dir);
	reserved_regions(b, dir);
	tree_file(b->tree, dir, "type", 0644, has_iommu(b) ? "DMA\n" : "unknown\n");
	if (!has_iommu(b))
		tree_file(b->tree, dir, "name", 0444, "vfio-noiommu\n");
}

/* A group has a node under /dev/vfio once one of its functions is vfio-pci's. */
static void add_node(struct builder *b, unsigned number)
{
	char name[32], path[RUN_PATH], class[RUN_PATH];

	snprintf(name, sizeof(name), "%s%u", has_iommu(b) ? "" : "noiommu-", number);
	snprintf(path, sizeof(path), "/dev/vfio/%s", name);
	if (run_tree_find(b->tree, path))
		return;
	tree_file(b->tree, "/dev/vfio", name, 0666, "%s", "");
	snprintf(path, sizeof(path), "/sys/devices/virtual/vfio/%s", name);
	tree_file(b->tree, path, "dev", 0444, "243:%u\n", number);
	tree_file(b->tree, path, "uevent", 0644, "MAJOR=243\nMINOR=%u\nDEVNAME=vfio/%s\n", number,
		  name);
	snprintf(class, sizeof(class), "/sys/class/vfio/%s", name);
	tree_link(b->tree, class, path);
	strcat(path, "/subsystem");
	tree_link(b->tree, path, "/sys/class/vfio");
}

static void add_driver(struct builder *b, const char *name)
{
	static const char *const controls[] = {"bind", "unbind", "new_id", "remove_id"};
	char dir[RUN_PATH], from[RUN_PATH * 2];

	snprintf(dir, sizeof(dir), DRIVERS "/%.64s", name);
	if (run_tree_find(b->tree, dir))
		return;
	tree_directory(b->tree, dir);
	for (unsigned i = 0; i < 4; i++)
		tree_file(b->tree, dir, controls[i], 0200, "%s", "");
	tree_file(b->tree, dir, "uevent", 0200, "%s", "");
	if (!strcmp(name, "vfio-pci")) {
		snprintf(from, sizeof(from), "%s/module", dir);
		tree_link(b->tree, from, "/sys/module/vfio_pci");
	}
}

static void add_module(struct builder *b, const char *name, const char *parameters)
{
	char dir[RUN_PATH], all[256], *save = NULL;

	snprintf(dir, sizeof(dir), "/sys/module/%s", name);
	tree_directory(b->tree, dir);
	tree_file(b->tree, dir, "refcnt", 0444, "1\n");
	tree_file(b->tree, dir, "initstate", 0444, "live\n");
	strcat(dir, "/parameters");
	snprintf(all, sizeof(all), "%s", parameters);
	for (char *p = strtok_r(all, " ", &save); p; p = strtok_r(NULL, " ", &save)) {
		char *value = strchr(p, '=');

		*value++ = '\0';
		tree_file(b->tree, dir, p, 0644, "%s\n", value);
	}
}

static void add_modules(struct builder *b)
{
	char type1[128];

	add_module(b, "vfio",
		   has_iommu(b) ? "enable_unsafe_noiommu_mode=N" : "enable_unsafe_noiommu_mode=Y");
	add_module(b, "vfio_pci", "disable_denylist=N enable_sriov=N");
	add_module(b, "vfio_pci_core", "disable_idle_d3=N disable_vga=N nointxmask=N");
	snprintf(type1, sizeof(type1),
		 "allow_unsafe_interrupts=%c disable_hugepages=N dma_entry_limit=%u",
		 b->config->unsafe_interrupts ? 'Y' : 'N',
		 b->config->dma_entries ? b->config->dma_entries : 65535);
	add_module(b, "vfio_iommu_type1", type1);
}

/* ---- the IOMMU itself ---------------------------------------------------------------------- */

/* VT-d's capability register as QEMU's emulation has it, with this platform's address width: MGAW
 * in bits 21:16, the supported widths in 12:8 (Intel VT-d specification, 11.4.2). */
static uint64_t vtd_capability(unsigned width)
{
	uint64_t widths = width >= 57 ? 0xe : width >= 48 ? 0x6 : 0x2;

	return (UINT64_C(0xd2008c22260206) & ~UINT64_C(0x3f1f00)) | (uint64_t)(width - 1) << 16 |
	       widths << 8;
}

static void add_vtd(struct builder *b)
{
	char dir[RUN_PATH];

	snprintf(dir, sizeof(dir), "%s/intel-iommu", b->iommu);
	tree_file(b->tree, dir, "address", 0444, "fed90000\n");
	tree_file(b->tree, dir, "cap", 0444, "%llx\n",
		  (unsigned long long)vtd_capability(b->facts->width));
	tree_file(b->tree, dir, "ecap", 0444, "f00f4a\n");
	tree_file(b->tree, dir, "version", 0444, "1:0\n");
	tree_file(b->tree, dir, "domains_supported", 0444, "65536\n");
	tree_file(b->tree, dir, "domains_used", 0444, "1\n");
}

/* The device of the machine's IOMMU, by the format it translates with. PAMU's driver and POWER's
 * had none in the kernels that uiommu follows. */
static void add_iommu(struct builder *b)
{
	static const struct {
		const char *format, *name;
	} devices[] = {
		{"vtd-ss", "dmar0"},
		{"amd-v1", "ivhd0"},
		{"arm-s1", "smmu3.0x0000000009050000"},
		{"arm-s2", "smmu3.0x0000000009050000"},
		{"riscv", "riscv-iommu@3010000.iommu"},
	};
	const char *name = NULL;
	char path[RUN_PATH];

	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		if (b->facts->format && !strcmp(b->facts->format, devices[i].format))
			name = devices[i].name;
	if (!name || b->facts->xen.there)
		return;
	snprintf(b->iommu, sizeof(b->iommu), "/sys/devices/virtual/iommu/%s", name);
	snprintf(path, sizeof(path), "%s/devices", b->iommu);
	tree_directory(b->tree, path);
	tree_file(b->tree, b->iommu, "uevent", 0644, "%s", "");
	snprintf(path, sizeof(path), "/sys/class/iommu/%s", name);
	tree_link(b->tree, path, b->iommu);
	snprintf(path, sizeof(path), "%s/subsystem", b->iommu);
	tree_link(b->tree, path, "/sys/class/iommu");
	if (!strcmp(b->facts->format, "vtd-ss"))
		add_vtd(b);
}

/* Domain 0's nodes. The IOMMU, though a VT-d unit, is none that Linux sees. */
static void add_xen(struct builder *b)
{
	tree_directory(b->tree, "/dev/xen");
	tree_file(b->tree, "/dev/xen", "privcmd", 0600, "%s", "");
}

static void add_fixed(struct builder *b)
{
	static const char *const directories[] = {
		"/dev/vfio",	      "/sys/bus/pci/devices",	   "/sys/bus/pci/drivers",
		"/sys/bus/pci/slots", "/sys/kernel/iommu_groups",  "/sys/class/iommu",
		"/sys/class/vfio",    "/sys/devices/virtual/vfio",
	};

	for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]); i++)
		tree_directory(b->tree, directories[i]);
	tree_file(b->tree, "/dev/vfio", "vfio", 0666, "%s", "");
	if (b->facts->xen.there)
		add_xen(b);
	tree_file(b->tree, "/sys/bus/pci", "rescan", 0200, "%s", "");
	tree_file(b->tree, "/sys/bus/pci", "drivers_probe", 0200, "%s", "");
	tree_file(b->tree, "/sys/bus/pci", "drivers_autoprobe", 0644, "1\n");
	if (has_iommufd(b)) {
		tree_directory(b->tree, "/dev/vfio/devices");
		if (b->config->iommufd != RUN_IOMMUFD_RFC)
			tree_directory(b->tree, "/sys/class/vfio-dev");
		tree_file(b->tree, "/dev", "iommu", 0666, "%s", "");
	}
	add_driver(b, "vfio-pci");
	add_modules(b);
	add_iommu(b);
}

int run_tree_build(struct uiommu_machine *machine, const struct run_config *config,
		   struct run_tree *tree)
{
	struct builder b = {
		.tree = tree,
		.config = config,
		.facts = uiommu_platform_facts(uiommu_machine_platform(machine)),
		.next_bar = FIRST_BAR,
		.next_wide = FIRST_WIDE_BAR,
		.next_irq = 16,
	};
	struct uiommu_function *fn;
	int error;

	memset(tree, 0, sizeof(*tree));
	add_fixed(&b);
	for (size_t i = 0; (fn = uiommu_machine_function(machine, i)); i++) {
		const struct uiommu_function_info *info = uiommu_function_info(fn);

		if (has_group(&b, info))
			add_group(&b, info->group);
		add_driver(&b, info->driver);
		if (!strcmp(info->driver, "vfio-pci"))
			add_node(&b, info->group);
		add_function(&b, fn);
	}
	error = tree->error;
	if (error)
		run_tree_free(tree);
	return error;
}
