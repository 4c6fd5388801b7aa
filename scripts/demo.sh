#!/bin/sh
# make demo: builds testdata/hello, runs it on port 8080 and fetches its page.
# Asks no image registry: the base image is made from Debian's busybox.
# A second call replaces the first one's container.
set -eu
cd "$(dirname "$0")/.."
box=bin/box
port=${PORT:-8080}

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }
step() {
	say "\$ $*"
	"$@"
}

if ! $box images -q busybox 2>/dev/null | grep -q .; then
	if ! command -v busybox >/dev/null 2>&1; then
		say "installing busybox-static from Debian"
		# On a fresh machine there are no package lists yet, which the first
		# attempt finds out; only what the second one says is of interest.
		install_busybox() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq busybox-static >/dev/null; }
		install_busybox 2>/dev/null ||
			{ apt-get update -qq && install_busybox; } ||
			{ echo "demo: busybox is neither in the image store nor installed; try: apt-get install busybox-static" >&2; exit 1; }
	fi
	rootfs=$(sh scripts/rootfs.sh busybox)
	say "\$ $box import -c 'CMD [\"sh\"]' $rootfs busybox"
	$box import -c 'CMD ["sh"]' "$rootfs" busybox
fi

step $box build -t hello testdata/hello

# What an earlier demo left; nothing else is called hello and made from hello.
if $box ps -a --format '{{.Names}} {{.Image}}' | grep -qx 'hello hello'; then
	say "replacing the container of an earlier demo"
	$box rm -f hello >/dev/null
fi

if ! step $box run -d --name hello -p "$port:80" hello; then
	$box rm -f hello >/dev/null 2>&1 || true
	echo "demo: if port $port is taken by something else, choose another one: make demo PORT=9090" >&2
	exit 1
fi

# The container runs before its server listens; wait for the server itself.
fetch() { busybox wget -q -O - "http://127.0.0.1:$port/" 2>/dev/null || curl -fsS "http://127.0.0.1:$port/" 2>/dev/null; }
tries=0
until page=$(fetch); do
	tries=$((tries + 1))
	if [ "$tries" -gt 50 ]; then
		echo "demo: no answer on http://127.0.0.1:$port/; the container says:" >&2
		$box logs hello >&2
		exit 1
	fi
	sleep 0.1
done

say "http://127.0.0.1:$port/ answers:"
printf '%s\n' "$page"

cat <<END

Now try:
  $box ps                       what runs
  $box logs -f hello            what it says (fetch the page again and watch)
  $box exec -it hello sh        a shell inside
  $box run --rm -it busybox sh  another container, gone when you leave it
  $box inspect hello            everything known about it
  $box rm -f hello              end the demo
END
