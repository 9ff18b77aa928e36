/* SPDX-License-Identifier: MIT */
/*
 * What the files of this folder know of a function and of a machine.
 *
 * Locks. A function has one lock, taken with function_lock(): everything below "under the lock" is
 * its. It is a plain mutex behind a gate: whoever wants it passes the gate first, and waits for the
 * mutex holding the gate. So a worker that lets go between two steps cannot take it again before
 * those who waited meanwhile, and a register write gets in even while a chain of descriptors runs.
 * A register write may come from a signal handler that emulates a trapped store; that is safe
 * because the interrupted instruction was a store of the program's, never code that holds this
 * lock.
 *
 * While DMA waits for a page, a worker whose model allows it lets go of the lock in the middle of a
 * step. Whoever needs whole steps, and whoever must not wait for a page, takes the lock with
 * function_lock_whole().
 *
 * bell_lock is a leaf beside it: whoever wakes the worker takes it for a moment, with the
 * function's lock or without.
 *
 * Held by its caller while: model operations run, DMA is done, MSIs are written, the INTx callback
 * is called. So those who receive interrupts take leaf locks only.
 */
#ifndef DEVICE_FUNCTION_H
#define DEVICE_FUNCTION_H

#include <pthread.h>
#include <time.h>

#include <uiommu/device.h>

#define CONFIG_CONVENTIONAL 256
#define CONFIG_EXPRESS	    4096

/* BARs lie this far apart in the memory file, as VFIO's regions do. */
#define BAR_STRIDE_SHIFT 40

#define FUNCTION_NAME_MAX   16
#define FUNCTION_DRIVER_MAX 32

struct uiommu_function {
	/* Never change once the function is in its machine. */
	struct uiommu_machine *machine;
	const struct uiommu_model *model;
	struct uiommu_function_info info;
	char name[FUNCTION_NAME_MAX];
	char driver[FUNCTION_DRIVER_MAX];
	struct uiommu_port *port;
	struct uiommu_port *pasid_port; /* for its DMA with PASIDs; NULL: it has none */
	void *state;
	bool initialised;	 /* init() succeeded: fini() is due */
	bool express;		 /* PCI Express, not conventional */
	unsigned pasid_cap_bits; /* of its PASID capability; 0: it has none */
	int fd;			 /* the memory file */
	uint8_t *bar[UIOMMU_BARS];
	uint32_t pba_offset;

	pthread_mutex_t gate;
	pthread_mutex_t lock;

	pthread_mutex_t bell_lock;
	/* Under bell_lock. */
	pthread_cond_t bell; /* rung became true */
	bool rung;	     /* the worker is to look at what there is for it */

	/* Under the lock. */
	pthread_cond_t idle; /* kicked or interrupted became false */
	pthread_t thread;
	bool worker; /* the thread is there */
	bool stop;
	bool interrupted; /* work() let go of the lock half way, and has not returned yet */
	uint64_t alarm;	  /* CLOCK_MONOTONIC in ns: work() is to be called; 0: none */
	bool yield;	  /* work() is only looking */
	bool kicked;	  /* work() is to be called */
	struct timespec not_before; /* and not earlier than that, by CLOCK_MONOTONIC */
	bool master;		    /* what the port was told */

	uint8_t config[CONFIG_EXPRESS];
	uint8_t power_on[CONFIG_EXPRESS]; /* config after a reset */
	uint8_t writable[CONFIG_EXPRESS]; /* bits that a write changes */
	uint8_t clears[CONFIG_EXPRESS];	  /* bits that writing a one clears */

	bool intx_asserted; /* the model wants it */
	bool intx_level;    /* the line: asserted and let through */
	void (*intx)(void *ctx, bool level);
	void *intx_ctx;

	/* Atomic, for those without the lock: work() is to be called; the worker waits for the
	 * bell, or is about to; memory decoding is on (written under the lock). */
	bool posted, asleep, decodes;

	char *why; /* where init() explains itself, while it runs */
	size_t why_len;

	uint64_t interrupts; /* written under the lock, read by anyone: atomic */
};

/* worker.c */
int function_locks_init(struct uiommu_function *fn);
void function_locks_destroy(struct uiommu_function *fn);
void function_lock(struct uiommu_function *fn);
void function_unlock(struct uiommu_function *fn);
/* The same, ending whatever the function's DMA waits for, and with no step of work() half done. */
void function_lock_whole(struct uiommu_function *fn);
/* Around a wait of the port's, if the model lets others in. */
void worker_let_in(void *function);
void worker_go_on(void *function);
/* Start the worker if the model has work and there is none. Without the lock. */
int worker_start(struct uiommu_function *fn);
void worker_stop(struct uiommu_function *fn);
/* Forget work that was asked for. Under the lock. */
void worker_cancel(struct uiommu_function *fn);
void worker_fork_prepare(struct uiommu_function *fn);
void worker_fork_parent(struct uiommu_function *fn);
void worker_fork_child(struct uiommu_function *fn);

/* function.c */
struct uiommu_function *function_create(struct uiommu_machine *machine,
					const struct uiommu_model *model, uiommu_rid rid,
					unsigned group, const char *driver, int *error);
/* Init, reset and worker, once the options are taken. @why is written if init() explains itself. */
int function_power_on(struct uiommu_function *fn, char *why, size_t why_len);
void function_destroy(struct uiommu_function *fn);
/* Under the lock. */
void function_reset(struct uiommu_function *fn);

/* config.c; all under the lock but the first */
void config_build(struct uiommu_function *fn);
void config_mark_multifunction(struct uiommu_function *fn);
uint16_t config_get16(const struct uiommu_function *fn, unsigned offset);
uint32_t config_get32(const struct uiommu_function *fn, unsigned offset);
void config_put32(struct uiommu_function *fn, unsigned offset, uint32_t value);
bool config_decodes_memory(const struct uiommu_function *fn);
/* Offset of the capability of the model's own that has the byte at @offset; 0: none. */
unsigned config_model_cap(const struct uiommu_model *model, unsigned offset);
/* What is wrong with a model's capabilities, or NULL. */
const char *config_caps_fault(const struct uiommu_model *model);
/* Make the port's bus-master enable, and decodes, follow configuration space. */
void config_apply_command(struct uiommu_function *fn);

/* msi.c; all under the lock */
bool msix_enabled(const struct uiommu_function *fn);
void msi_reset(struct uiommu_function *fn);
/* Configuration space changed: the INTx line follows, vectors that became deliverable are sent. */
void msi_config_changed(struct uiommu_function *fn);
/* Does this piece of the BAR belong to the MSI-X table or the PBA? */
bool msix_owns(const struct uiommu_function *fn, unsigned bar, uint64_t offset);
/* A write of 1, 2, 4 or 8 bytes, naturally aligned, to what msix_owns(). */
void msix_write(struct uiommu_function *fn, uint64_t offset, unsigned len, uint64_t value);
/* Bytes of an MSI-X structure: the PBA is in units of 64 vectors. */
uint32_t msix_table_size(const struct uiommu_model *model);
uint32_t msix_pba_size(const struct uiommu_model *model);
uint32_t msix_pba_offset(const struct uiommu_model *model);

/* bar.c */
int bar_create(struct uiommu_function *fn);
void bar_destroy(struct uiommu_function *fn);
/* Accesses under the lock, whether or not the function decodes memory. -EINVAL: outside. */
int bar_read_under_lock(struct uiommu_function *fn, unsigned bar, uint64_t offset, void *buf,
			size_t len);
int bar_write_under_lock(struct uiommu_function *fn, unsigned bar, uint64_t offset, const void *buf,
			 size_t len);

/* machine.c */
const struct uiommu_machine_options *machine_options(const struct uiommu_machine *machine);

/* spec.c: "MODEL[@ADDRESS][,key=value…]" taken apart */
#define SPEC_OPTIONS_MAX 32
#define SPEC_WHY_MAX	 256

struct device_spec {
	char *text; /* owned; what follows points into it */
	size_t text_size;
	const char *model;
	bool has_address;
	uiommu_rid rid;
	bool has_group;
	unsigned group;
	const char *driver;
	struct {
		const char *key, *value;
	} options[SPEC_OPTIONS_MAX]; /* the model's */
	size_t option_count;
};

int spec_parse(const char *text, struct device_spec *spec, char *why, size_t why_len);
void spec_release(struct device_spec *spec);
/* Say why, record the refusal, return @error. */
int spec_refuse(char *why, size_t why_len, enum uiommu_rule rule, int error, const char *format,
		...) __attribute__((format(printf, 5, 6)));
int model_check(const struct uiommu_model *model, char *why, size_t why_len);
int model_take_options(struct uiommu_function *fn, const struct device_spec *spec, char *why,
		       size_t why_len);

#endif
