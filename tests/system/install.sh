#!/bin/bash
# Installs what `make test-system` needs, from Debian's packages; what is there already is left alone.
set -eu
packages="slurmctld slurmd slurm-client munge openmpi-bin libopenmpi-dev mpich libmpich-dev lammps libhiredis-dev gcc chromium redis-server rabbitmq-server iproute2 prometheus docker-compose tmux libhwloc15 libjemalloc2 libmunge2 libtirpc3"
# Some machines have it from elsewhere, which the package would overwrite.
command -v kubectl >/dev/null || packages="$packages kubernetes-client"
missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
grid_engine=/usr/local/lib/taskensemble-tests/gridengine
[ -e /usr/lib/gridengine ] && grid_engine=""
[ -z "$missing$grid_engine" ] && exit 0
if ! command -v apt-get >/dev/null; then
    echo "make test-system installs Debian packages and found no apt-get; install by hand:$missing gridengine" >&2
    exit 1
fi
root=""
[ "$(id -u)" = 0 ] || root="sudo"
# The tests start their own servers: a package's daemon must not start with its installation.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null
    $root chmod 755 "$policy"
    trap '$root rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
$root apt-get update -q
# shellcheck disable=SC2086
[ -z "$missing" ] || $root apt-get install -y -q --no-install-recommends $missing
[ -z "$grid_engine" ] && exit 0
# Grid Engine is unpacked and not installed: installed it would want a mail server, and its qsub would be what launcher="auto" finds
# on this machine. It looks for its own libraries in one place only.
work=$(mktemp -d)
if ! (cd "$work" && apt-get download -q gridengine-master gridengine-exec gridengine-client gridengine-common); then
    echo "no Grid Engine could be downloaded: its tests are skipped" >&2
    exit 0
fi
$root mkdir -p "$grid_engine"
for package in "$work"/*.deb; do
    $root dpkg -x "$package" "$grid_engine"
done
rm -r "$work"
$root ln -s "$grid_engine/usr/lib/gridengine" /usr/lib/gridengine
