#!/bin/sh
# SPDX-License-Identifier: MIT
# nvme-qemu.sh - QEMU's own user-space NVMe driver (its block layer's nvme://), as Debian ships it in
# qemu-io, on the simulated controller; and what it wrote, in the controller's file.
#
#   nvme-qemu.sh UIOMMU NAMESPACE-MODE
set -eu
uiommu=$1
mode=$2
image=$(mktemp)
trap 'rm -f "$image"' EXIT
truncate -s 64M "$image"

for block in 512 4096; do
	"$uiommu" run --namespace "$mode" --device "nvme,file=$image,block=$block" -- \
		qemu-io --image-opts driver=nvme,device=0000:00:01.0,namespace=1 \
		-c 'write -P 0x5a 0 1M' -c 'read -P 0x5a 0 1M' -c flush \
		-c 'write -z 64k 64k' -c 'read -P 0 64k 64k' \
		-c 'discard 128k 64k' -c 'read -P 0 128k 64k' \
		-c 'aio_write -P 7 200k 64k' -c 'aio_read 0 512k' -c aio_flush \
		-c 'read -P 7 200k 64k' -c 'write -f -P 9 63M 1M' -c 'read -P 9 63M 1M'
	# The same read from the file, by QEMU's driver of files.
	qemu-io -f raw -c 'read -P 0x5a 0 64k' -c 'read -P 0 64k 128k' -c 'read -P 7 200k 64k' \
		-c 'read -P 9 63M 1M' "$image" >"$image.log"
	if grep -i 'pattern verification failed' "$image.log"; then
		exit 1
	fi
	rm -f "$image.log"
done
