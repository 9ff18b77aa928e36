/* SPDX-License-Identifier: MIT */
/* The AMD v1 format: its facts, and the algorithms compiled for them. */
#include <stdbool.h>
#include <stdint.h>

#include "table/formats.h"
#include "table/fmt_amdv1.h"
#include "table/table_impl.h"
