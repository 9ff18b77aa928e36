/* SPDX-License-Identifier: MIT */
/*
 * Numbers of the NVM Express Base Specification, revision 1.4. Sections are given where a block of
 * them comes from.
 */
#ifndef DEVICE_MODELS_NVME_SPEC_H
#define DEVICE_MODELS_NVME_SPEC_H

/* ---- controller registers (3.1) ----------------------------------------------------------------
 */

enum {
	REG_CAP = 0x00,
	REG_VS = 0x08,
	REG_INTMS = 0x0c,
	REG_INTMC = 0x10,
	REG_CC = 0x14,
	REG_CSTS = 0x1c,
	REG_AQA = 0x24,
	REG_ASQ = 0x28,
	REG_ACQ = 0x30,
	REG_DOORBELLS = 0x1000,
};

#define VERSION 0x00010400u

#define CAP_CQR		 (UINT64_C(1) << 16)
#define CAP_TO_SHIFT	 24
#define CAP_CSS_NVM	 (UINT64_C(1) << 37)
#define CAP_MPSMAX_SHIFT 52

#define CC_EN	      0x1u
#define CC_CSS(cc)    ((cc) >> 4 & 0x7)
#define CC_MPS(cc)    ((cc) >> 7 & 0xf)
#define CC_AMS(cc)    ((cc) >> 11 & 0x7)
#define CC_SHN(cc)    ((cc) >> 14 & 0x3)
#define CC_IOSQES(cc) ((cc) >> 16 & 0xf)
#define CC_IOCQES(cc) ((cc) >> 20 & 0xf)
/* Bits 31:24 are reserved. */
#define CC_WRITABLE 0x00fffff1u

#define CSTS_RDY	 0x1u
#define CSTS_CFS	 0x2u
#define CSTS_SHST	 0xcu
#define CSTS_SHST_ACTIVE 0x4u
#define CSTS_SHST_DONE	 0x8u

/* ---- queues (4.2, 4.6) -------------------------------------------------------------------------
 */

#define SQE_SIZE 64u
#define CQE_SIZE 16u
/* As CC and Identify have them. */
#define SQE_LOG 6u
#define CQE_LOG 4u

#define NSID_ALL UINT32_MAX

/* ---- status: type in bits 10:8, code in 7:0 (4.6.1) --------------------------------------------
 */

enum {
	SC_SUCCESS = 0x000,
	SC_INVALID_OPCODE = 0x001,
	SC_INVALID_FIELD = 0x002,
	SC_DATA_TRANSFER = 0x004,
	SC_INTERNAL = 0x006,
	SC_ABORT_REQUESTED = 0x007,
	SC_INVALID_NAMESPACE = 0x00b,
	SC_SEQUENCE = 0x00c,
	SC_SGL_SEGMENT = 0x00d,
	SC_SGL_COUNT = 0x00e,
	SC_SGL_LENGTH = 0x00f,
	SC_SGL_TYPE = 0x011,
	SC_PRP_OFFSET = 0x013,
	SC_KEEP_ALIVE_EXPIRED = 0x019,
	SC_WRITE_PROTECTED = 0x020,
	SC_LBA_RANGE = 0x080,
	SC_CAPACITY = 0x081,

	SC_CQ_INVALID = 0x100,
	SC_QUEUE_ID = 0x101,
	SC_QUEUE_SIZE = 0x102,
	SC_EVENT_LIMIT = 0x105,
	SC_VECTOR = 0x108,
	SC_LOG_PAGE = 0x109,
	SC_FORMAT = 0x10a,
	SC_QUEUE_DELETION = 0x10c,
	SC_NOT_SAVEABLE = 0x10d,
	SC_NOT_CHANGEABLE = 0x10e,
	SC_NOT_NAMESPACE = 0x10f,

	SC_WRITE_FAULT = 0x280,
	SC_READ_ERROR = 0x281,
	SC_COMPARE = 0x285,
};

/* More information is in the error log; trying again won't help. */
#define STATUS_MORE 0x2000u
#define STATUS_DNR  0x4000u

/* ---- opcodes (5, 6) ----------------------------------------------------------------------------
 */

enum {
	ADMIN_DELETE_SQ = 0x00,
	ADMIN_CREATE_SQ = 0x01,
	ADMIN_GET_LOG = 0x02,
	ADMIN_DELETE_CQ = 0x04,
	ADMIN_CREATE_CQ = 0x05,
	ADMIN_IDENTIFY = 0x06,
	ADMIN_ABORT = 0x08,
	ADMIN_SET_FEATURES = 0x09,
	ADMIN_GET_FEATURES = 0x0a,
	ADMIN_ASYNC_EVENT = 0x0c,
	ADMIN_KEEP_ALIVE = 0x18,
	ADMIN_DOORBELL_BUFFERS = 0x7c,
	ADMIN_FORMAT = 0x80,

	IO_FLUSH = 0x00,
	IO_WRITE = 0x01,
	IO_READ = 0x02,
	IO_COMPARE = 0x05,
	IO_WRITE_ZEROES = 0x08,
	IO_DATASET = 0x09,
	IO_VERIFY = 0x0c,
};

/* ---- features (5.21.1) -------------------------------------------------------------------------
 */

enum {
	FEATURE_ARBITRATION = 0x01,
	FEATURE_POWER = 0x02,
	FEATURE_TEMPERATURE = 0x04,
	FEATURE_ERROR_RECOVERY = 0x05,
	FEATURE_WRITE_CACHE = 0x06,
	FEATURE_QUEUES = 0x07,
	FEATURE_COALESCING = 0x08,
	FEATURE_VECTOR = 0x09,
	FEATURE_ATOMICITY = 0x0a,
	FEATURE_EVENTS = 0x0b,
	FEATURE_TIMESTAMP = 0x0e,
	FEATURE_KEEP_ALIVE = 0x0f,
};

/* ---- log pages and events (5.2.1, 5.14.1) ------------------------------------------------------
 */

enum {
	LOG_ERROR = 0x01,
	LOG_SMART = 0x02,
	LOG_FIRMWARE = 0x03,
	LOG_CHANGED = 0x04,
	LOG_EFFECTS = 0x05,
};

enum {
	EVENT_ERROR = 0,
	EVENT_SMART = 1,
	EVENT_NOTICE = 2,
};

enum {
	EVENT_ERROR_REGISTER = 0, /* write to an invalid doorbell register */
	EVENT_ERROR_VALUE = 1,	  /* invalid doorbell write value */
	EVENT_SMART_TEMPERATURE = 1,
	EVENT_NOTICE_NAMESPACE = 0,
};

/* Bits of Asynchronous Event Configuration, and of OAES. */
#define EVENTS_SMART	 0xffu
#define EVENTS_NAMESPACE 0x100u

#define WARNING_TEMPERATURE 0x02u

#endif
