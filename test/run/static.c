/* SPDX-License-Identifier: MIT */
/*
 * A program that uiommu run must refuse: it is linked statically.
 */
int main(void)
{
	return 0;
}
