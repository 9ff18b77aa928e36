/* SPDX-License-Identifier: MIT */
/**
 * uiommu/port.h - DMA ports: how a device's DMA enters a unit. Part of uiommu/space.h.
 *
 * A port belongs to one thread at a time, unless a function says that any thread may call it, and
 * takes no lock. Unmap and detach return only when no port can still reach what was taken away; so
 * a thread inside an access section must call neither.
 *
 * What is passed for each access is there as a function of the library and inline, by the same name
 * (uiommu/port_inline.h).
 */
#ifndef UIOMMU_PORT_H
#define UIOMMU_PORT_H

#include <uiommu/space.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Open a way in for DMA by @rid. Several ports may have one requester ID. -ENOMEM. */
UIOMMU_API int uiommu_port_create(struct uiommu_unit *unit, uiommu_rid rid,
				  struct uiommu_port **out);
/** One whose accesses carry a PASID; for UIOMMU_NO_PASID as above. Doorbell windows that no table
 *  translates are no doorbells to it: their IOVAs are translated as others (Intel VT-d
 *  specification, "Handling Requests to Interrupt Address Range"). -EINVAL: a PASID above
 *  UIOMMU_PASID_MAX; -ENOMEM. */
UIOMMU_API int uiommu_port_create_pasid(struct uiommu_unit *unit, uiommu_rid rid, uint32_t pasid,
					struct uiommu_port **out);
/** Its accesses carry that PASID from now on, as if it had been created so. The port's thread,
 *  outside of sections. Nothing is changed on -EINVAL: a PASID above UIOMMU_PASID_MAX; -ENOMEM. */
UIOMMU_API int uiommu_port_set_pasid(struct uiommu_port *port, uint32_t pasid);
UIOMMU_API void uiommu_port_destroy(struct uiommu_port *port);

/** Bus-master enable; a new port's is off. Any thread. Returns when, after clearing it, no access
 *  to memory through this port is under way (a doorbell write may be); so not from the port's own
 *  thread inside an access section. */
UIOMMU_API void uiommu_port_set_master(struct uiommu_port *port, bool enabled);

/** May accesses through this port wait for a page (as the enable bit of PCI's page request
 *  interface)? A new port's may not. Switched off, what waits is answered INVALID; this waits for
 *  nobody. Any thread. */
UIOMMU_API void uiommu_port_set_paging(struct uiommu_port *port, bool enabled);

/** As if it were switched off as long as it is held; holds count. For who must get the port's
 *  thread out of an access: a reset. Any thread. */
UIOMMU_API void uiommu_port_hold_paging(struct uiommu_port *port, bool hold);

/** Have the port's thread call this before and after it waits for a page, to let go of what it
 *  holds. Before the port is used; NULL: nothing. */
UIOMMU_API void uiommu_port_set_wait(struct uiommu_port *port, void (*before)(void *ctx),
				     void (*after)(void *ctx), void *ctx);

/**
 * Copy @len bytes from (to) IOVA @iova, over as many mappings as it takes. 0, or -EFAULT: a fault
 * was recorded for the first byte that could not be reached; the bytes before it were transferred.
 * A write to a doorbell window is an interrupt.
 */
UIOMMU_API int uiommu_port_read(struct uiommu_port *port, uint64_t iova, void *buf, size_t len);
UIOMMU_API int uiommu_port_write(struct uiommu_port *port, uint64_t iova, const void *buf,
				 size_t len);

/** Write an MSI: @data, little endian, to @iova. As uiommu_port_write(), but a fault says that it
 * was an interrupt. */
UIOMMU_API int uiommu_port_interrupt(struct uiommu_port *port, uint64_t iova, uint32_t data);

/** One piece of a scatter/gather access. */
struct uiommu_sg {
	uint64_t iova;
	uint64_t len;
};

/** Gather from (scatter to) several ranges in order, as one access. Errors as above. */
UIOMMU_API int uiommu_port_readv(struct uiommu_port *port, const struct uiommu_sg *sg, size_t count,
				 void *buf, size_t len);
UIOMMU_API int uiommu_port_writev(struct uiommu_port *port, const struct uiommu_sg *sg,
				  size_t count, const void *buf, size_t len);

/** One piece of translated memory. */
struct uiommu_segment {
	uint64_t addr;
	uint64_t len;
};

/**
 * Enter and leave an access section. Translations obtained inside stay valid until the section is
 * left: unmap waits for it. Keep sections short. They do not nest.
 */
UIOMMU_API void uiommu_port_enter(struct uiommu_port *port);
UIOMMU_API void uiommu_port_leave(struct uiommu_port *port);

/**
 * Inside a section: translate [iova, iova + len) for @access (UIOMMU_READ, UIOMMU_WRITE or both:
 * then all of it must permit both) into at most *@count segments, merged where they adjoin. *@count
 * is set to the number of segments. Returns the bytes covered (less than @len if the segments did
 * not suffice), or -EFAULT with a fault recorded; a doorbell is no memory. Takes time by the leaves
 * that lie in the range, all in the section: who has @len from somebody else bounds it.
 */
UIOMMU_API int64_t uiommu_port_translate(struct uiommu_port *port, uint64_t iova, uint64_t len,
					 int access, struct uiommu_segment *segments,
					 size_t *count);

/**
 * Inside a section: as uiommu_port_translate() into one segment, whose address becomes *@addr.
 * Returns the bytes from @iova on that lie there, or -EFAULT with a fault recorded. This is the
 * cheapest way when an access is mostly in one piece.
 */
UIOMMU_API int64_t uiommu_port_translate_one(struct uiommu_port *port, uint64_t iova, uint64_t len,
					     int access, uint64_t *addr);

/** One of many translations. */
struct uiommu_translation {
	uint64_t iova, len; /**< what is asked for */
	uint64_t addr;	    /**< where its first byte is */
	uint64_t covered;   /**< and how many bytes follow from there on, up to len */
};

/**
 * Inside a section: translate many ranges for @access, each as uiommu_port_translate() does into
 * one segment, in order and with the loads of the tables' entries under way together: cheaper than
 * one by one where they are far apart and many are mapped. Returns how many were translated: all,
 * or those before the first that faulted, whose fault was recorded (uiommu_port_last_fault()).
 */
UIOMMU_API size_t uiommu_port_translate_many(struct uiommu_port *port, int access,
					     struct uiommu_translation *translations, size_t count);

/**
 * A file that a device's data is in. @fd is read and written at given offsets only. The bounce
 * buffer is for what can't go directly between the file and memory; at least one byte.
 */
struct uiommu_file {
	int fd;
	int flags; /**< enum uiommu_file_flags */
	void *bounce;
	size_t bounce_len;
	int learned; /**< the port's notes of what the file can't; 0 at first */
};

enum uiommu_file_flags {
	UIOMMU_FILE_MEMORY = 1 << 0, /**< it is in memory: reading it never waits for a disk */
	UIOMMU_FILE_SYNC = 1 << 1,   /**< what is written is on stable storage on return */
};

/**
 * DMA between a file and IOVA ranges, without a copy in between where the memory can be lent to
 * system calls (uiommu_memory_ops.lend): @len bytes from @offset on into the ranges, resp. out of
 * them. Pieces are at most 64 KiB, each in one access section, within which reads don't wait for a
 * disk: what is not in the page cache goes through the bounce buffer. Writes to the page cache may
 * wait for memory. 0; -EFAULT: a fault was recorded; -ENODATA: the file ends before; -EINVAL: the
 * ranges have less than @len bytes; otherwise what the file said, e.g. -EIO or -ENOSPC. What came
 * before the error was transferred. The port's thread, outside of sections; *@file is used by one
 * thread at a time.
 */
UIOMMU_API int uiommu_port_from_file(struct uiommu_port *port, const struct uiommu_sg *sg,
				     size_t count, struct uiommu_file *file, uint64_t offset,
				     size_t len);
UIOMMU_API int uiommu_port_to_file(struct uiommu_port *port, const struct uiommu_sg *sg,
				   size_t count, struct uiommu_file *file, uint64_t offset,
				   size_t len);

/** The port's own counters (flushes are the unit's and stay 0 here). Any thread. */
UIOMMU_API void uiommu_port_stats(struct uiommu_port *port, struct uiommu_unit_stats *stats);

/** The last fault of this port; reason NONE if there was none. The port's thread. */
UIOMMU_API void uiommu_port_last_fault(struct uiommu_port *port, struct uiommu_fault *fault);

#ifdef __cplusplus
}
#endif

#include <uiommu/port_inline.h>

#endif
