/* SPDX-License-Identifier: MIT */
/* The VT-d first-stage format: its facts, and the algorithms compiled for them. */
#include <stdbool.h>
#include <stdint.h>

#include "table/formats.h"
#include "table/fmt_x86fs.h"
#include "table/table_impl.h"
