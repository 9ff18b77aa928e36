/* SPDX-License-Identifier: MIT */
/*
 * Owns the machine that a platform is tried on: one function, its VFIO group and a container. No
 * rule of any platform is in here; whatever is asked goes to the library, whose refusals are the
 * answer. Closing cannot fail, and takes a trial that was opened in part.
 *
 * The memory that is mapped isn't there: it is asked for nowhere, since no device runs.
 */
#include "cmd/trial.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uiommu/linux/vfio_msi_2016.h>
#include <uiommu/linux/vfio_pamu.h>

#include "cmd/number.h"
#include "util/range.h"

#define CONTAINER_FD 3
/* Where the mmap of an MSI bank would lie in a program: beyond all RAM. */
#define BANK_VADDR (UINT64_C(1) << 51)
#define BANK_PAGE  UINT64_C(4096)

/* ---- what the front end needs ---- */

static int no_memory(void *ctx, uint64_t addr, void *buf, size_t len)
{
	return -EFAULT;
}

static int no_memory_written(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	return -EFAULT;
}

static const struct uiommu_memory_ops memory_ops = {
	.size = sizeof(memory_ops), .read = no_memory, .write = no_memory_written};
static const struct uiommu_memory memory = {.ops = &memory_ops};

static struct uiommu_vfio_file *file_of(void *ctx, int fd)
{
	struct trial *trial = ctx;

	return fd == CONTAINER_FD ? trial->container : NULL;
}

/* The banks' mmaps are one page after the other. */
static int doorbell_at(void *ctx, uint64_t vaddr, uint64_t len, uint64_t *doorbell)
{
	const struct uiommu_platform_facts *facts = ((struct trial *)ctx)->facts;
	uint64_t number = (vaddr - BANK_VADDR) / BANK_PAGE;

	if (vaddr < BANK_VADDR || number >= facts->doorbell_count || len != BANK_PAGE)
		return 0;
	*doorbell = facts->doorbells[number].range.first;
	return 1;
}

static void refused(void *ctx, const char *what, const struct uiommu_refusal *refusal)
{
	struct trial *trial = ctx;

	trial->request = what;
	trial->refusal = *refusal;
}

/* ---- life ---- */

static int open_files(struct trial *trial)
{
	const struct uiommu_vfio_options options = {
		.size = sizeof(options),
		.host = {.size = sizeof(options.host),
			 .file_of = file_of,
			 .doorbell_at = doorbell_at,
			 .refused = refused,
			 .ctx = trial},
		.unsafe_interrupts = true,
	};
	struct uiommu_function *fn = uiommu_machine_function(trial->machine, 0);
	int ret = uiommu_vfio_create(trial->machine, &options, &trial->vfio);

	trial->platform = uiommu_machine_platform(trial->machine);
	trial->facts = uiommu_platform_facts(trial->platform);
	trial->rid = uiommu_function_info(fn)->rid;
	if (ret || !trial->facts->format)
		return ret;
	ret = uiommu_vfio_open_container(trial->vfio, &trial->container);
	if (!ret)
		ret = uiommu_vfio_open_group(trial->vfio, uiommu_function_info(fn)->group,
					     &trial->group);
	return ret;
}

int trial_open(const char *spec, struct trial *trial, char *why, size_t why_len)
{
	struct uiommu_machine_options options = {
		.size = sizeof(options), .platform = spec, .memory = &memory};
	int ret;

	memset(trial, 0, sizeof(*trial));
	ret = uiommu_machine_create(&options, &trial->machine, why, why_len);
	if (ret)
		return ret;
	ret = uiommu_machine_add(trial->machine, "edu", why, why_len);
	if (!ret) {
		ret = open_files(trial);
		if (ret)
			snprintf(why, why_len, "%s", strerror(-ret));
	}
	if (ret)
		trial_close(trial);
	return ret;
}

void trial_close(struct trial *trial)
{
	while (trial->irq_count)
		uiommu_platform_irq_free(trial->platform, trial->irqs[--trial->irq_count]);
	while (trial->doorbell_count)
		uiommu_ioas_unmap_doorbell(trial->ioas, trial->doorbells[--trial->doorbell_count]);
	if (trial->group)
		uiommu_vfio_release(trial->group);
	if (trial->container)
		uiommu_vfio_release(trial->container);
	uiommu_vfio_destroy(trial->vfio);
	uiommu_machine_destroy(trial->machine);
	memset(trial, 0, sizeof(*trial));
}

/* ---- requests ---- */

/* As the program would: 0, or -errno with its reason kept. */
static int request(struct trial *trial, struct uiommu_vfio_file *file, unsigned long number,
		   const void *arg)
{
	long ret;

	trial->request = NULL;
	ret = uiommu_vfio_ioctl(file, number, (unsigned long)arg);
	trial->error = ret < 0 ? (int)ret : 0;
	return trial->error;
}

/* The same for a call of the engine's. */
static int engine(struct trial *trial, const char *what, int ret)
{
	trial->error = ret < 0 ? ret : 0;
	trial->request = NULL;
	if (ret < 0)
		refused(trial, what, uiommu_last_refusal());
	return ret;
}

static unsigned long iommu_type(const struct uiommu_platform_facts *facts)
{
	if (facts->vfio_types & UIOMMU_VFIO_PAMU)
		return facts->pamu.type;
	if (facts->vfio_types & UIOMMU_VFIO_SPAPR)
		return VFIO_SPAPR_TCE_v2_IOMMU;
	return VFIO_TYPE1v2_IOMMU;
}

static void take_ioas(void *ctx, struct uiommu_ioas *ioas, const char *name)
{
	struct trial *trial = ctx;

	trial->ioas = ioas;
}

int trial_attach(struct trial *trial)
{
	const int fd = CONTAINER_FD;
	int ret;

	if (!trial->container)
		return 0;
	ret = request(trial, trial->group, VFIO_GROUP_SET_CONTAINER, &fd);
	if (!ret)
		ret = request(trial, trial->container, VFIO_SET_IOMMU,
			      (const void *)iommu_type(trial->facts));
	if (!ret)
		uiommu_vfio_each_ioas(trial->vfio, take_ioas, trial);
	return ret;
}

int trial_set_geometry(struct trial *trial, const struct trial_geometry *geometry)
{
	struct vfio_pamu_attr attr = {.argsz = sizeof(attr), .attribute = VFIO_ATTR_GEOMETRY};
	int ret;

	trial->geometry = *geometry;
	attr.attr_info.attr.aperture_start = geometry->aperture.first;
	attr.attr_info.attr.aperture_end = geometry->aperture.last;
	ret = request(trial, trial->container, VFIO_IOMMU_PAMU_SET_ATTR, &attr);
	attr.attribute = VFIO_ATTR_WINDOWS;
	attr.attr_info.windows = geometry->windows;
	if (!ret)
		ret = request(trial, trial->container, VFIO_IOMMU_PAMU_SET_ATTR, &attr);
	/* There may be more than were asked for. */
	if (!ret)
		ret = request(trial, trial->container, VFIO_IOMMU_PAMU_GET_ATTR, &attr);
	if (!ret)
		trial->geometry.windows = attr.attr_info.windows;
	return ret;
}

int trial_make_window(struct trial *trial, unsigned page_shift, uint64_t size, uint64_t *start)
{
	struct vfio_iommu_spapr_tce_create create = {.argsz = sizeof(create),
						     .page_shift = page_shift,
						     .window_size = size,
						     .levels = 1};
	int ret = request(trial, trial->container, VFIO_IOMMU_SPAPR_TCE_CREATE, &create);

	*start = create.start_addr;
	return ret;
}

/* On POWER, memory is registered before it can be mapped. */
static int register_memory(struct trial *trial, uint64_t addr, uint64_t size)
{
	struct vfio_iommu_spapr_register_memory memory_args = {
		.argsz = sizeof(memory_args), .vaddr = addr, .size = size};

	if (!(trial->facts->vfio_types & UIOMMU_VFIO_SPAPR))
		return 0;
	return request(trial, trial->container, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, &memory_args);
}

int trial_map(struct trial *trial, struct uiommu_range range, uint64_t addr)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = addr,
		.iova = range.first,
		.size = range.last - range.first + 1,
	};
	int ret = register_memory(trial, map.vaddr, map.size);

	return ret ? ret : request(trial, trial->container, VFIO_IOMMU_MAP_DMA, &map);
}

int trial_give_msi_window(struct trial *trial, struct uiommu_range range)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA,
		.iova = range.first,
		.size = range.last - range.first + 1,
	};

	return request(trial, trial->container, VFIO_IOMMU_MAP_DMA, &map);
}

/* ---- interrupts ---- */

int trial_doorbell(struct trial *trial, unsigned number, uint64_t *address)
{
	const struct uiommu_doorbell *doorbell = &trial->facts->doorbells[number];
	int ret;

	*address = doorbell->range.first;
	if (!doorbell->translated || !trial->ioas)
		return 0;
	ret = engine(trial, "the interrupt's doorbell",
		     uiommu_ioas_map_doorbell(trial->ioas, doorbell->range.first, doorbell->name,
					      address));
	if (ret == 1)
		trial->doorbells[trial->doorbell_count++] = doorbell->range.first;
	return ret < 0 ? ret : 0;
}

int trial_map_bank(struct trial *trial, unsigned number, uint64_t iova)
{
	struct vfio_pamu_msi_bank_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.msi_bank_index = number,
		.iova = iova,
	};

	if (trial->facts->pamu.msi == UIOMMU_PAMU_MMAP)
		return trial_map(trial, (struct uiommu_range){iova, iova + (BANK_PAGE - 1)},
				 BANK_VADDR + number * BANK_PAGE);
	return request(trial, trial->container, VFIO_IOMMU_PAMU_MAP_MSI_BANK, &map);
}

/* Nothing ever arrives: no port writes. */
static void arrives(void *ctx, unsigned vector)
{
}

int trial_interrupts(struct trial *trial, unsigned count)
{
	int ret = 0;

	for (unsigned i = 0; i < count && !ret; i++) {
		uiommu_clear_refusal();
		ret = engine(trial, "the interrupts",
			     uiommu_platform_irq_alloc(trial->platform, trial->ioas, trial->rid, 1,
						       false, arrives, NULL, &trial->messages[i],
						       &trial->irqs[i]));
		trial->irq_count += !ret;
	}
	return ret;
}

unsigned trial_doorbell_of(const struct trial *trial, const struct uiommu_msi_message *message,
			   uint64_t *address)
{
	const struct uiommu_platform_facts *facts = trial->facts;
	const struct uiommu_doorbell *doorbell =
		uiommu_platform_doorbell_at(trial->platform, trial->rid, message->address);
	unsigned number = 0;

	while (number < facts->doorbell_count && &facts->doorbells[number] != doorbell)
		number++;
	*address = doorbell && !doorbell->translated ? doorbell->range.first
						     : message->address & ~(BANK_PAGE - 1);
	return number;
}

const char *trial_refusal(const struct trial *trial, char *buf, size_t len)
{
	int used;

	if (!trial->request || trial->refusal.rule == UIOMMU_RULE_NONE) {
		snprintf(buf, len, "%s", strerror(-trial->error));
		return buf;
	}
	used = snprintf(buf, len, "%s refused: ", trial->request);
	if (used >= 0 && (size_t)used < len)
		uiommu_refusal_format(&trial->refusal, buf + used, len - (size_t)used);
	return buf;
}

/* ---- what it looks like ---- */

/* Memory as it lies. */
static void picture_untranslated(struct picture *picture)
{
	memset(picture, 0, sizeof(*picture));
	picture->rows[picture->count++] = (struct picture_row){.range = UIOMMU_RANGE_ALL,
							       .kind = PICTURE_RESERVED,
							       .outside = true,
							       .why = "as it is"};
}

/* Doorbells that no region tells of, since nothing is translated where they are. */
static void add_doorbells(const struct uiommu_platform_facts *facts, struct picture *picture)
{
	for (size_t i = 0; i < facts->doorbell_count; i++) {
		const struct uiommu_range range = facts->doorbells[i].range;
		bool told = facts->doorbells[i].translated;

		for (size_t j = 0; j < facts->region_count; j++)
			told |= range_overlaps(facts->regions[j].range, range);
		if (!told)
			picture_add_doorbell(picture, range, range.first);
	}
}

uint64_t trial_window_size(const struct trial_geometry *geometry)
{
	if (!geometry->windows || !range_valid(geometry->aperture))
		return 0;
	return (geometry->aperture.last - geometry->aperture.first) / geometry->windows + 1;
}

void trial_picture(struct trial *trial, struct picture *picture)
{
	if (trial->ioas)
		picture_take(trial->ioas, picture);
	else
		picture_untranslated(picture);
	add_doorbells(trial->facts, picture);
	picture->aperture = trial->geometry.aperture;
	picture->window = trial_window_size(&trial->geometry);
}

const char *trial_name(void *ctx, const struct picture_row *row)
{
	const struct uiommu_platform_facts *facts = ctx;

	for (size_t i = 0; i < facts->doorbell_count; i++) {
		const struct uiommu_doorbell *doorbell = &facts->doorbells[i];

		if (row->kind == PICTURE_DOORBELL
			    ? row->addr == doorbell->range.first
			    : row->kind == PICTURE_RESERVED && !doorbell->translated &&
				      !row->outside && range_overlaps(row->range, doorbell->range))
			return doorbell->name;
	}
	return NULL;
}

/* Runs of four and more sizes, each twice the one before, are told by their ends. */
const char *trial_page_sizes(uint64_t sizes, char *buf, size_t len)
{
	char low[24], high[24];
	size_t used = 0;

	buf[0] = '\0';
	while (sizes && used < len) {
		unsigned first = (unsigned)__builtin_ctzll(sizes), count = 1;

		while (first + count < 64 && (sizes >> (first + count) & 1))
			count++;
		if (count < 4)
			count = 1;
		number_size(UINT64_C(1) << first, low);
		number_size(UINT64_C(1) << (first + count - 1), high);
		used += (size_t)snprintf(buf + used, len - used, "%s%s%s%s", used ? " " : "", low,
					 count > 1 ? "-" : "", count > 1 ? high : "");
		for (unsigned i = 0; i < count; i++)
			sizes &= sizes - 1;
	}
	return buf;
}

const char *trial_vfio_word(unsigned vfio_types)
{
	if (vfio_types & UIOMMU_VFIO_TYPE1)
		return "type1";
	if (vfio_types & UIOMMU_VFIO_PAMU)
		return "fsl-pamu";
	if (vfio_types & UIOMMU_VFIO_SPAPR)
		return "spapr-tce";
	return vfio_types & UIOMMU_VFIO_NOIOMMU ? "noiommu" : "none";
}

uint64_t trial_sizes(const struct trial *trial)
{
	/* There a domain has no pages, its windows have. */
	if (trial->facts->vfio_types & UIOMMU_VFIO_SPAPR)
		return trial->facts->spapr.page_sizes;
	return trial->ioas ? uiommu_ioas_page_sizes(trial->ioas) : 0;
}

void trial_describe(struct trial *trial, char *title, size_t title_len, char *details,
		    size_t details_len)
{
	const struct uiommu_platform_facts *facts = trial->facts;
	char pages[64], size[24], windows[64] = "";

	if (trial->geometry.windows)
		snprintf(windows, sizeof(windows), ", %u windows of %s", trial->geometry.windows,
			 number_size(trial_window_size(&trial->geometry), size));
	snprintf(title, title_len, "%s: %s", facts->name, facts->summary);
	if (!trial->ioas)
		snprintf(details, details_len, "nothing is translated, VFIO %s",
			 trial_vfio_word(facts->vfio_types));
	else
		snprintf(details, details_len,
			 "%s tables, %u bits of I/O virtual address, pages %s%s, VFIO %s",
			 facts->format, facts->width,
			 trial_page_sizes(trial_sizes(trial), pages, sizeof(pages)), windows,
			 trial_vfio_word(facts->vfio_types));
}

bool trial_colour(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no && *no) && !(term && !strcmp(term, "dumb"));
}
