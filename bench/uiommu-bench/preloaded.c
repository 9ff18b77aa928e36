/* SPDX-License-Identifier: MIT */
/*
 * preloaded - a mapping from end to end: an unmodified program's ioctl() under `uiommu run`, which
 * is bench-ioctl. One run of it gives three figures, a real ioctl's among them, measured by turns.
 */
#include "bench.h"

#include <stdio.h>

#ifdef UIOMMU
enum { NULL_IOCTL, MAP, UNMAP, FIGURES };

static double figure[FIGURES];
static bool fresh[FIGURES];

static double figure_of(const struct work *work)
{
	if (!fresh[work->arg]) {
		FILE *run = popen(UIOMMU " run --device edu -- " BENCH_IOCTL " --brief", "r");

		must(!run, "popen");
		must(fscanf(run, "%lf %lf %lf", &figure[NULL_IOCTL], &figure[MAP],
			    &figure[UNMAP]) != FIGURES,
		     UIOMMU " run");
		must(pclose(run), UIOMMU " run");
		for (int i = 0; i < FIGURES; i++)
			fresh[i] = true;
	}
	fresh[work->arg] = false;
	return figure[work->arg];
}
#endif

void preloaded_add(void)
{
#ifdef UIOMMU
	if (!work_wanted("ours"))
		return;
	work_add(figure_of, NULL, NULL_IOCTL, 0, "limit: ioctl on /dev/null, beside the next two");
	work_add(figure_of, NULL, MAP, 0, "ours: preloaded MAP_DMA, one page");
	work_add(figure_of, NULL, UNMAP, 0, "ours: preloaded UNMAP_DMA, one page");
#endif
}
