/* SPDX-License-Identifier: MIT */
/*
 * Numbers as people write addresses and sizes.
 */
#ifndef CMD_NUMBER_H
#define CMD_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

/* "4096", "0x1000", "4K", "64M", "1G", "2T", "1P", "1E": all of the text, or false. */
bool number_parse(const char *text, uint64_t *number);

/* The other way round, exactly: "64M", or "0x12345" for what is no whole number of KiB. Returns
 * @buf of 24 bytes. */
const char *number_size(uint64_t bytes, char *buf);

#endif
