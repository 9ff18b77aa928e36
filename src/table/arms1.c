/* SPDX-License-Identifier: MIT */
/* The Armv8 stage 1 format: its facts, and the algorithms compiled for them. */
#include <stdbool.h>
#include <stdint.h>

#include "table/formats.h"
#include "table/fmt_arms1.h"
#include "table/table_impl.h"
