#!/bin/sh
# Makes the root file system of one base image out of Debian's packages and
# prints the path of the tar.gz. No image registry is asked: the tests and the
# demo must work where only Debian's archive can be reached.
#
#   scripts/rootfs.sh busybox|debian|node|nginx
#
# The result is kept in ${XDG_CACHE_HOME:-~/.cache}/box-test and made again
# when this script, the host's package sources or its private CAs change.
# What the host needs to get out (its Debian mirror, its private CAs, its npm
# registry) is taken over into the rootfs when it is made, never into git.
set -eu

name=${1:?usage: rootfs.sh busybox|debian|node|nginx}
self=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/box-test
suite=bookworm

# Debian's own indexes as configured on the host: "URI suite component".
apt_sources() {
	# shellcheck disable=SC2016 # the $(…) are apt's own placeholders
	apt-get indextargets --format '$(ORIGIN)|$(REPO_URI)|$(CODENAME)|$(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
		awk -F'|' -v suite=$suite '$1 ~ /^Debian/ && $3 ~ "^" suite { print "deb", $2, $3, $4 }' | sort -u
}

# Settings without which the host's apt would not get anything either; mirrors
# hiccup, so each file is asked for more than once.
apt_options() {
	echo 'Acquire::Retries "4";'
	apt-config dump 2>/dev/null | grep -E '^Acquire::(Check-|https?::|Retries|ForceIPv)' | grep -v ' "";$' || true
}

npm_registry() {
	command -v npm >/dev/null 2>&1 && npm config get registry 2>/dev/null || echo https://registry.npmjs.org/
}

private_cas() {
	find /usr/local/share/ca-certificates -name '*.crt' -type f 2>/dev/null | sort
}

fingerprint() {
	{
		cat "$self"
		apt_sources
		apt_options
		if [ "$name" = node ]; then npm_registry; fi
		private_cas | xargs -r cat
	} | sha256sum | cut -c1-12
}

# The applets become symbolic links, as `busybox --install -s` makes them.
make_busybox() {
	bb=$(command -v busybox) || { echo "rootfs.sh: busybox: not installed; try: apt-get install busybox-static" >&2; exit 1; }
	mkdir -p "$work/root/bin" "$work/root/etc" "$work/root/root" "$work/root/tmp" "$work/root/var/www" "$work/root/usr/bin" "$work/root/dev" "$work/root/proc" "$work/root/sys"
	ln -s ../bin "$work/root/usr/sbin"
	ln -s bin "$work/root/sbin"
	chmod 1777 "$work/root/tmp"
	chmod 0700 "$work/root/root"
	install -m 0755 "$bb" "$work/root/bin/busybox"
	"$bb" --list | while read -r applet; do
		[ -e "$work/root/bin/$applet" ] || ln -s busybox "$work/root/bin/$applet"
	done
	ln -s ../../bin/env "$work/root/usr/bin/env"
	printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n' >"$work/root/etc/passwd"
	printf 'root:x:0:\ndaemon:x:1:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n' >"$work/root/etc/group"
	tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$work/root" -cf "$work/rootfs.tar" .
}

# make_debian PACKAGES: minimal Debian with these packages, without papers.
make_debian() {
	packages=$1
	apt_sources >"$work/sources.list"
	[ -s "$work/sources.list" ] || echo "deb http://deb.debian.org/debian $suite main" >"$work/sources.list"
	apt_options >"$work/apt.conf"
	mkdir "$work/ca"
	private_cas | while read -r ca; do cp "$ca" "$work/ca/"; done
	npm_registry >"$work/registry"
	cat >"$work/hook" <<-'EOF'
		#!/bin/sh
		set -eu
		root=$1
		mkdir -p "$root/usr/local/share/ca-certificates"
		cp "$BOX_WORK"/ca/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
		chroot "$root" update-ca-certificates >/dev/null 2>&1 || true
		if [ "$BOX_NAME" = node ]; then
			{
				echo "registry=$(cat "$BOX_WORK/registry")"
				echo "cafile=/etc/ssl/certs/ca-certificates.crt"
				echo "update-notifier=false"
			} >"$root/etc/npmrc"
		fi
		# What differs from run to run, or names the machine it was made on.
		find "$root/var/log" "$root/var/cache" "$root/var/lib/apt/lists" -type f -delete
		rm -f "$root/etc/resolv.conf" "$root/etc/hostname"
		: >"$root/etc/machine-id"
	EOF
	chmod +x "$work/hook"
	# mmdebstrap hands numbers of descriptors to dash, which knows those below ten
	# only: it gets none of ours, nor of whoever called us.
	BOX_WORK=$work BOX_NAME=$name SOURCE_DATE_EPOCH=0 mmdebstrap --mode=root --variant=minbase --quiet --include="$packages" \
		--aptopt="$work/apt.conf" \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
		--customize-hook="$work/hook" \
		--skip=output/dev --format=tar "$suite" "$work/rootfs.tar" "$work/sources.list" >&2 \
		3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
}

mkdir -p "$cache"
out=$cache/$name-$(fingerprint).tar.gz
# One maker at a time; whoever waited finds the file made.
exec 9>"$cache/$name.lock"
flock 9
if [ ! -s "$out" ]; then
	echo "making the $name root file system from Debian's packages ..." >&2
	work=$(mktemp -d "$cache/tmp.XXXXXX")
	trap 'rm -rf "$work"' EXIT INT TERM
	case $name in
	busybox) make_busybox ;;
	debian) make_debian ca-certificates ;;
	node) make_debian ca-certificates,nodejs,npm ;;
	nginx) make_debian ca-certificates,nginx-light ;;
	*) echo "rootfs.sh: $name: unknown; known: busybox debian node nginx" >&2; exit 2 ;;
	esac
	gzip -1 -n <"$work/rootfs.tar" >"$work/out.tar.gz"
	rm -f "$cache/$name"-*.tar.gz
	mv "$work/out.tar.gz" "$out"
fi
echo "$out"
