/* SPDX-License-Identifier: MIT */
/*
 * What the JSON that the command prints has in common. Addresses and sizes are text, "0xfee00000",
 * since many readers of JSON have no 64-bit integers. Out of memory, jansson's functions leave out
 * what they can't add, and json_print() says so.
 */
#ifndef CMD_JSON_OUT_H
#define CMD_JSON_OUT_H

#include <jansson.h>

#include <uiommu/types.h>

/* null for NULL. */
void json_set_string(json_t *object, const char *key, const char *text);
void json_set_address(json_t *object, const char *key, uint64_t address);
/* {"first": …, "last": …} */
json_t *json_range(struct uiommu_range range);
/* Of a bitmap: ["0x1000", …]. */
json_t *json_sizes(uint64_t bitmap);
/* The type's own word: unlike sysfs, sw-msi is told apart. */
const char *json_resv_word(enum uiommu_resv_type type);
/* Print and release it. 0, or 1 after a complaint. */
int json_print(json_t *json);

#endif
