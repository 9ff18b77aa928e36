/* SPDX-License-Identifier: MIT */
/*
 * Format: the one of the mock IOMMU that Linux's iommufd selftests drive: AMD v1 with pages of 2
 * KiB, so that an I/O page is smaller than the processor's (PT_GRANULE_LG2SZ in
 * drivers/iommu/generic_pt/fmt/amdv1.h, for the mock). No hardware has it.
 */
#include <stdbool.h>
#include <stdint.h>

#include "table/formats.h"

#define AMDV1_GRANULE  11
#define FMT_NAME       "mock"
#define FMT_OPS	       table_mock
#define FMT_PAGE_SIZES UINT64_C(0x7ff7ffffff800)

#include "table/fmt_amdv1.h"
#include "table/table_impl.h"
