#!/bin/sh
# Installs what the tests and the comparison need on Debian 12, and nothing
# when it is there already. This is the one list of those packages.
set -eu

# What the tests cannot do without, and whom they work together with: skopeo
# reads images in place, docker-registry and htpasswd (apache2-utils) take
# pushes, podman runs what was pushed, containerd and docker call box-runtime,
# runc and crun take its place, nftables and iproute2 look at the traces left. The
# test VM is QEMU with a disk made by e2fsprogs and modules indexed by kmod; inside
# it, containers without root need uidmap, systemd boots from the host's files, and criu
# writes containers to disk. qemu-user-static runs machine code for arm64.
packages="busybox-static mmdebstrap ca-certificates curl jq iproute2 nftables iptables procps
skopeo docker-registry apache2-utils podman buildah containernetworking-plugins containerd docker.io runc crun
shellcheck apparmor
qemu-system-x86 qemu-system-common e2fsprogs kmod uidmap systemd dbus dbus-user-session libpam-systemd checkpolicy
criu qemu-user-static"

# What runc's own integration tests call, and what building runc takes.
if [ "${1:-}" = runc-suite ]; then
	packages="$packages bats gawk gcc libc6-dev libseccomp-dev pkg-config uidmap util-linux selinux-utils"
fi

missing=
for package in $packages; do
	dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

[ "$(id -u)" = 0 ] || { echo "test-deps.sh: must be root to install:$missing" >&2; exit 1; }
command -v apt-get >/dev/null 2>&1 || { echo "test-deps.sh: no apt-get here; install by hand:$missing" >&2; exit 1; }

# Debian starts services on installation. None is wanted here: the tests start
# their own, in places of their own, and dockerd would set up the firewall.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod +x "$policy"
	trap 'rm -f "$policy"' EXIT INT TERM
fi

echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list
apt-get install -y -qq --no-install-recommends $missing >/dev/null
