/* SPDX-License-Identifier: MIT */
/*
 * Owns the form of what the command prints as JSON. No state.
 */
#include "cmd/json_out.h"

#include <inttypes.h>
#include <stdio.h>

#include "cmd/cmd.h"

void json_set_string(json_t *object, const char *key, const char *text)
{
	json_object_set_new(object, key, text ? json_string(text) : json_null());
}

void json_set_address(json_t *object, const char *key, uint64_t address)
{
	json_object_set_new(object, key, json_sprintf("0x%" PRIx64, address));
}

json_t *json_range(struct uiommu_range range)
{
	json_t *object = json_object();

	json_set_address(object, "first", range.first);
	json_set_address(object, "last", range.last);
	return object;
}

json_t *json_sizes(uint64_t bitmap)
{
	json_t *list = json_array();

	for (; bitmap; bitmap &= bitmap - 1)
		json_array_append_new(list, json_sprintf("0x%" PRIx64, bitmap & -bitmap));
	return list;
}

const char *json_resv_word(enum uiommu_resv_type type)
{
	return type == UIOMMU_RESV_SW_MSI ? "sw-msi" : uiommu_resv_name(type);
}

int json_print(json_t *json)
{
	int ret = json_dumpf(json, stdout, JSON_INDENT(2));

	json_decref(json);
	if (ret) {
		complain("the JSON could not be written");
		return 1;
	}
	return putchar('\n') == EOF;
}
