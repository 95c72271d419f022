#!/bin/sh
# The state of a Slurm job in Snakemake's words: success, running or failed.
state=$(sacct --allocations --noheader --parsable2 --format=State --jobs="$1" 2>/dev/null | head -n 1)
case "$state" in
  COMPLETED) echo success ;;
  "" | PENDING | CONFIGURING | RUNNING | COMPLETING | REQUEUED | RESIZING | SUSPENDED) echo running ;;
  *) echo failed ;;
esac
