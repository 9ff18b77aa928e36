/* SPDX-License-Identifier: MIT */
/*
 * Format: Freescale PAMU (peripheral access management unit), the layout of its table entries.
 * QorIQ reference manuals (P4080RM and others), chapter "Peripheral Access Management Unit": PAACT
 * entries (PAACE), PPAACE and SPAACE; Linux drivers/iommu/fsl_pamu.h, which programs are used to.
 *
 * An entry is 64 bytes, words big-endian. A device's logical number (LIODN) selects a primary
 * entry. It says where its one window lies, which is cut into 2^(WCE + 1) equal subwindows if MW is
 * set. Subwindow 0 is described by the primary entry, the others by a run of secondary entries that
 * starts at index FSPI of a table that all primaries share.
 *
 *   word  primary                                         secondary
 *   0     window base, bits 63:32                         -
 *   1     window base 31:12, WSE 11:6, MW 5, AP 4:3,      LIODN 31:16, AP, DD, PT, V
 *         DD 2, PT 1 (0), V 0                             (PT 1)
 *   2     to host: 7 coherency required                   the same
 *   3     stash 23:16, WCE 7:4, ATM 3:2, OTM 1:0          the same, no WCE
 *   4     translated base, bits 63:32                     the same
 *   5     translated base 31:12, SWSE 11:6                the same
 *   6     FSPI                                            -
 *
 * Sizes are 2^(WSE + 1) bytes, at least 4 KiB; SWSE is the size of what is mapped in a subwindow,
 * which may be less than the subwindow: an access behind it is a violation. AP: 1 query (read),
 * 2 update (write), 3 both, 0 denied. ATM 1: translate by window, which puts the translated base in
 * place of the upper bits, so that both bases are aligned to the size. Memory is accessed
 * coherently, device registers are not.
 */
#ifndef TABLE_FMT_PAMU_H
#define TABLE_FMT_PAMU_H

#include <stdint.h>

#define PAMU_MAX_WINDOWS 256
#define PAMU_SECONDARY	 0x800 /* entries of the shared table */
#define PAMU_SHIFT	 12    /* of the smallest size */
#define PAMU_WIDTH	 36    /* bits of a window's address */

struct paace {
	uint32_t base_high;
	uint32_t bits;
	uint32_t domain_attr;
	uint32_t impl_attr;
	uint32_t translated_high;
	uint32_t translated;
	uint32_t fspi;
	uint32_t op_encode;
	uint32_t reserved[8];
};

_Static_assert(sizeof(struct paace) == 64, "as the hardware has it");

#define PAACE_V		      UINT32_C(0x1)
#define PAACE_PT	      UINT32_C(0x2) /* secondary */
#define PAACE_AP_QUERY	      UINT32_C(0x8)
#define PAACE_AP_UPDATE	      UINT32_C(0x10)
#define PAACE_AP	      (PAACE_AP_QUERY | PAACE_AP_UPDATE)
#define PAACE_MW	      UINT32_C(0x20)
#define PAACE_WSE(shift)      ((uint32_t)((shift)-1) << 6) /* and SWSE */
#define PAACE_WSE_SHIFT(word) (((word) >> 6 & 0x3f) + 1)
#define PAACE_LOW	      UINT32_C(0xfffff000) /* of a base */

#define PAACE_COHERENT UINT32_C(0x80)

#define PAACE_WCE(shift)      ((uint32_t)((shift)-1) << 4)
#define PAACE_WCE_SHIFT(word) (((word) >> 4 & 0xf) + 1)
#define PAACE_ATM_WINDOW      (UINT32_C(1) << 2)

#endif
