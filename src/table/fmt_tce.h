/* SPDX-License-Identifier: MIT */
/*
 * Format: TCEs (translation control entries) of POWER servers, as a hypervisor's client sees them
 * ("spapr-tce") and as the PCI host bridge of a machine without one has them ("powernv-tce").
 * Linux on Power Architecture Reference (LoPAR), "TCE table" and "Dynamic DMA windows" option;
 * IODA2 for levels; Linux arch/powerpc/include/asm/tce.h, platforms/powernv/pci-ioda-tce.c.
 *
 * A table covers a window of IOVAs: 2^n pages of one size. An entry is 64 bits, big-endian.
 *
 *   bit 0       read permitted
 *   bit 1       write permitted
 *   51:12       real page number
 *
 * Both permissions clear: nothing is there. With several levels (powernv) the entries above the
 * last are the addresses of tables, with both bits; every level takes the same number of bits of
 * the page's number: ceil(n / levels), and at least a page of table.
 *
 *                spapr-tce               powernv-tce
 *   pages        4K, 64K, 2M, 16M        4K, 64K, 2M, 1G
 *   levels       1                       1 to 5
 *   write only   as it says              the driver adds read, so a device may read
 */
#ifndef TABLE_FMT_TCE_H
#define TABLE_FMT_TCE_H

#include <stdint.h>

#define TCE_READ  UINT64_C(1)
#define TCE_WRITE UINT64_C(2)
#define TCE_ADDR  (((UINT64_C(1) << 52) - 1) & ~UINT64_C(0xfff))

#define TCE_SPAPR_PAGES	  UINT64_C(0x01211000)
#define TCE_POWERNV_PAGES UINT64_C(0x40211000)

#define TCE_POWERNV_LEVELS 5
#define TCE_MIN_BITS	   9  /* of a level: a page of table */
#define TCE_MAX_BITS	   27 /* a table of 1 GiB; more than that asks for more levels */

#endif
