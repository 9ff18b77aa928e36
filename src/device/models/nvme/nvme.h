/* SPDX-License-Identifier: MIT */
/*
 * What the files of the NVMe controller know of it.
 *
 * Everything is under the function's lock, but what bar_post() writes: posted[] and dirty[], which
 * are atomic. Commands are executed one after the other on the function's worker; one that takes
 * long (zeroes to a file without holes, a format) goes on in steps, and nothing else is executed
 * meanwhile. Nothing is allocated after init().
 *
 * A status is type and code as in spec.h; "do not retry" is added where it is posted.
 */
#ifndef DEVICE_MODELS_NVME_NVME_H
#define DEVICE_MODELS_NVME_NVME_H

#include <uiommu/device.h>

#include "device/models/nvme/spec.h"

/* Queue pairs for I/O, and one for administration. */
#define NVME_IO_QUEUES 64u
#define NVME_QUEUES    (NVME_IO_QUEUES + 1)
#define NVME_DOORBELLS (2 * NVME_QUEUES)
/* Entries a queue may have. */
#define NVME_ENTRIES 4096u
#define NVME_VECTORS NVME_QUEUES

#define NVME_NAMESPACES 16u
#define NVME_SERIAL	20u

/* Longest transfer: 2^7 pages of 4096 bytes. */
#define NVME_MDTS     7u
#define NVME_TRANSFER (4096u << NVME_MDTS)
/* Pages up to 64 KiB. */
#define NVME_MPSMAX 4u
/* Pieces of memory in one transfer, and SGL descriptors looked at for it. */
#define NVME_PIECES	 1024u
#define NVME_DESCRIPTORS 2048u

#define NVME_BUFFER (64u << 10)
/* Submission queue entries fetched at once. */
#define NVME_FETCH 16u

#define NVME_EVENT_REQUESTS 8u
#define NVME_EVENTS	    16u
#define NVME_ERRORS	    64u
#define NVME_RANGES	    256u

#define NVME_LOG_SIZE 4096u

/* Kelvin. */
#define NVME_TEMPERATURE 310u
#define NVME_WARNING	 343u
#define NVME_CRITICAL	 353u

/* What a handler returns instead of a status: completed later, in steps or by an event. */
#define NVME_STEPS 0xfffeu
#define NVME_LATER 0xffffu

/* ---- namespaces --------------------------------------------------------------------------------
 */

struct nvme_ns {
	char *path; /* NULL: in memory */
	uint64_t size;
	bool sized; /* by an option */
	bool made;  /* the file wasn't there before */
	bool read_only;
	unsigned block_log; /* 9 or 12 */
	bool changed;	    /* its data structure, since the log page was read */
	struct uiommu_file file;
};

static inline uint64_t nvme_ns_blocks(const struct nvme_ns *ns)
{
	return ns->size >> ns->block_log;
}

/* ---- queues ------------------------------------------------------------------------------------
 */

struct nvme_sq {
	bool exists;
	uint16_t id, cq;
	uint32_t entries, head, tail;
	uint64_t base;
};

struct nvme_cq {
	bool exists, interrupts;
	uint16_t id, vector;
	uint32_t entries, head, tail;
	bool phase;
	unsigned sqs; /* submission queues that complete here */
	uint64_t base;
	/* Entries since the last interrupt, and when the first of them was posted. */
	unsigned unsignalled;
	uint64_t since;
};

/* A command, in the host's byte order. */
struct nvme_cmd {
	uint32_t dw[16];
};

static inline uint8_t nvme_opcode(const struct nvme_cmd *cmd)
{
	return cmd->dw[0] & 0xff;
}

static inline uint16_t nvme_cid(const struct nvme_cmd *cmd)
{
	return (uint16_t)(cmd->dw[0] >> 16);
}

static inline uint64_t nvme_qword(const struct nvme_cmd *cmd, unsigned dw)
{
	return cmd->dw[dw] | (uint64_t)cmd->dw[dw + 1] << 32;
}

/* ---- features ----------------------------------------------------------------------------------
 */

struct nvme_features {
	uint32_t arbitration, power, temperature_over, temperature_under, write_cache, coalescing,
		atomicity, events, keep_alive;
	uint32_t error_recovery[NVME_NAMESPACES];
	bool uncoalesced[NVME_VECTORS]; /* coalescing disabled */
	uint64_t timestamp, timestamp_set;
	bool timestamp_host; /* the host set it */
};

struct nvme_event {
	uint8_t type, info, log;
};

struct nvme_error {
	uint64_t count, lba;
	uint16_t sq, cid, status;
	uint32_t nsid;
};

/* ---- the controller ----------------------------------------------------------------------------
 */

enum nvme_step {
	NVME_NO_STEP,
	NVME_STEP_ZERO, /* write zeroes where the file makes no holes */
	NVME_STEP_VERIFY,
	NVME_STEP_COMPARE,
	NVME_STEP_TRIM,
	NVME_STEP_FORMAT,
};

struct nvme {
	struct uiommu_function *fn;

	/* By options. */
	struct nvme_ns ns[NVME_NAMESPACES];
	unsigned ns_count;
	bool ns_implied; /* the first one was begun by neither file= nor memory= */
	unsigned io_queues;
	char serial[NVME_SERIAL + 1];
	bool spin; /* there is another processor */

	/* Atomic: values of doorbells, and which were written. */
	uint32_t posted[NVME_DOORBELLS];
	uint64_t dirty[(NVME_DOORBELLS + 63) / 64];

	bool ready;    /* enabled, and neither fatal nor shut down */
	bool shutdown; /* asked for and under way */
	unsigned shutdown_ns;
	unsigned page_log;
	uint32_t masked; /* INTMS */

	struct nvme_sq sq[NVME_QUEUES];
	struct nvme_cq cq[NVME_QUEUES];
	uint64_t pending[2]; /* submission queues that have entries */
	uint64_t signal[2];  /* completion queues that have an interrupt to raise */
	bool raised;	     /* an interrupt, since INTx was last lowered */
	unsigned next;	     /* whose turn it is */
	uint64_t now;	     /* ns, of this step */
	uint64_t active;     /* when something was last executed */
	uint64_t moved;	     /* bytes in this step */
	uint64_t alarm;	     /* what the function was told; 0: nothing */

	/* Shadow doorbells (7.13). */
	bool shadow;
	uint64_t shadow_base, event_base;
	uint32_t admin_seen[2]; /* the admin queue's copies as they were */
	bool admin_shadow[2];	/* the host updates them */

	struct nvme_features features;
	bool queues_made; /* since the controller was enabled */
	uint64_t keep_alive_due;

	/* Asynchronous events (5.2). */
	uint16_t event_cid[NVME_EVENT_REQUESTS];
	unsigned event_requests;
	struct nvme_event events[NVME_EVENTS];
	unsigned event_count;
	unsigned event_masked; /* types that wait for their log page to be read */

	/* Logs. They survive resets. */
	struct nvme_error errors[NVME_ERRORS];
	uint64_t error_count;
	uint64_t units_read, units_written, reads, writes, media_errors, unsafe_shutdowns;
	uint64_t powered_on, busy_ns;

	/* The command in steps. */
	enum nvme_step step;
	struct nvme_cmd step_cmd;
	struct nvme_sq *step_sq;
	uint64_t step_at, step_end; /* bytes of the namespace, or ranges */
	unsigned step_ns;
	uint64_t step_data; /* bytes of the transfer before it */

	/* Where the data of the command being executed goes. A piece with skip has no memory. */
	struct uiommu_sg piece[NVME_PIECES];
	bool skip[NVME_PIECES];
	unsigned pieces;

	struct nvme_cmd fetched[NVME_FETCH];
	uint8_t log[NVME_LOG_SIZE];
	uint8_t ranges[NVME_RANGES * 16];
	uint8_t buffer[NVME_BUFFER], other[NVME_BUFFER];
};

/* nvme.c */
uint64_t nvme_clock(void);
/* The controller can't go on (9.5): CSTS.CFS is set, nothing is executed until a reset. */
void nvme_fatal(struct nvme *n);

/* queue.c */
void nvme_queues_reset(struct nvme *n);
bool nvme_sq_empty(const struct nvme_sq *sq);
bool nvme_cq_full(const struct nvme_cq *cq);
void nvme_sq_pending(struct nvme *n, struct nvme_sq *sq);
/* Post a completion: the queue must have room. */
void nvme_complete(struct nvme *n, const struct nvme_sq *sq, uint16_t cid, uint32_t dw0,
		   uint16_t status);
void nvme_doorbells(struct nvme *n);
/* Look at shadow doorbells: is there something new? @sleep: tell the host to ring from here on. */
bool nvme_shadow_poll(struct nvme *n, bool sleep);
/* Raise the interrupts that are due. */
void nvme_signal(struct nvme *n);
/* The masks changed, or entries were consumed. */
void nvme_mask(struct nvme *n, uint32_t masked);
void nvme_lower(struct nvme *n);
/* When the next interrupt is due that is held back; 0: none. */
uint64_t nvme_signal_due(const struct nvme *n);

/* data.c: where a command's data is (4.3, 4.4), and moving it. All return a status. */
uint16_t nvme_map(struct nvme *n, const struct nvme_cmd *cmd, uint64_t len);
uint16_t nvme_to_host(struct nvme *n, const struct nvme_cmd *cmd, const void *buf, uint64_t len);
uint16_t nvme_from_host(struct nvme *n, const struct nvme_cmd *cmd, void *buf, uint64_t len);
/* Of the transfer that was mapped, [offset, offset + len) into a buffer. */
uint16_t nvme_fetch(struct nvme *n, uint64_t offset, void *buf, size_t len);

/* admin.c, io.c: execute a command. *dw0 is 0 at first. */
uint16_t nvme_admin(struct nvme *n, const struct nvme_cmd *cmd, uint32_t *dw0);
uint16_t nvme_io(struct nvme *n, const struct nvme_cmd *cmd);
/* A step of the one that takes several: NVME_STEPS, or its status. */
uint16_t nvme_io_step(struct nvme *n);
uint16_t nvme_format(struct nvme *n, const struct nvme_cmd *cmd);
/* The namespace of an ID, or NULL. */
struct nvme_ns *nvme_ns_of(struct nvme *n, uint32_t nsid);

/* identify.c */
uint16_t nvme_identify(struct nvme *n, const struct nvme_cmd *cmd);

/* feature.c */
void nvme_features_reset(struct nvme *n);
uint16_t nvme_set_features(struct nvme *n, const struct nvme_cmd *cmd, uint32_t *dw0);
uint16_t nvme_get_features(struct nvme *n, const struct nvme_cmd *cmd, uint32_t *dw0);
uint8_t nvme_warnings(const struct nvme *n);
void nvme_keep_alive(struct nvme *n);

/* log.c */
uint16_t nvme_get_log(struct nvme *n, const struct nvme_cmd *cmd);
void nvme_log_error(struct nvme *n, uint16_t sq, uint16_t cid, uint16_t status, uint32_t nsid,
		    uint64_t lba);
void nvme_event(struct nvme *n, uint8_t type, uint8_t info, uint8_t log);
/* Complete event requests with what has happened. */
void nvme_events_deliver(struct nvme *n);
uint16_t nvme_event_request(struct nvme *n, const struct nvme_cmd *cmd);
bool nvme_event_abort(struct nvme *n, uint16_t cid);
void nvme_events_reset(struct nvme *n);

/* store.c: options, and the files behind namespaces */
extern const struct uiommu_model_option nvme_options[];
int nvme_option(struct uiommu_function *fn, const char *key, const char *value, char *why,
		size_t why_len);
int nvme_store_open(struct nvme *n);
void nvme_store_close(struct nvme *n);
uint16_t nvme_store_flush(struct nvme *n, struct nvme_ns *ns);
/* Make [at, at + len) read as zeros by making a hole: 0, or -errno. */
int nvme_store_punch(struct nvme_ns *ns, uint64_t at, uint64_t len);
/* Write and read through a buffer: 0 or -errno. */
int nvme_store_write(struct nvme_ns *ns, uint64_t at, const void *buf, size_t len);
int nvme_store_read(struct nvme_ns *ns, uint64_t at, void *buf, size_t len);

/* ---- little endian structures ------------------------------------------------------------------
 */

static inline void nvme_put(uint8_t *at, uint64_t value, unsigned len)
{
	while (len--) {
		*at++ = (uint8_t)value;
		value >>= 8;
	}
}

static inline uint64_t nvme_get(const uint8_t *at, unsigned len)
{
	uint64_t value = 0;

	while (len--)
		value = value << 8 | at[len];
	return value;
}

#endif
