/* SPDX-License-Identifier: MIT */
/* The RISC-V first-stage format: its facts, and the algorithms compiled for them. */
#include <stdbool.h>
#include <stdint.h>

#include "table/formats.h"
#include "table/fmt_riscv.h"
#include "table/table_impl.h"
