#!/usr/bin/env bash
# Runs bpftrace's tools by bpftrace and by ktrail at once in a guest with the newest of the lab's kernels, and says where
# their output differs. Not part of `cargo xtask test`: it wants bpftrace with all its libraries, which is 270 MB, and
# takes a quarter of an hour. docs/language.md has the table that came of it.
#
#   tests/bpftrace/run.sh BPFTRACE EXTRA OUT [TOOL...]
#
# BPFTRACE  a directory with bin/bpftrace, lib/ (the libraries that it needs, and the loader) and tools/ (*.bt)
# EXTRA     a directory with mkfs.xfs and mdadm, and lib/ with what they need beyond the C library
# OUT       where the outputs go
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,/^set/s/^# \?//p' "$0"; exit 2; }
bpftrace=$1 extra=$2 out=$3
shift 3
here=$(dirname "$0")
wrapper=$(mktemp)
trap 'rm -f "$wrapper"' EXIT
printf '#!/bin/sh\nexec /bpftrace/lib/ld-linux-x86-64.so.2 --library-path /bpftrace/lib /bpftrace/bin/bpftrace "$@"\n' >"$wrapper"
chmod +x "$wrapper"
cargo xtask lab --kernel 7 --memory 3072 --timeout 3600 --out "$out" --file "$bpftrace:/bpftrace" \
    --file "$bpftrace/tools:/tools" --file "$extra:/extra" --file "$wrapper:/usr/local/bin/bpftrace" \
    --file "$here/guest.sh:/guest.sh" -- "bash /guest.sh $*"
"$here/compare.sh" "$out"
