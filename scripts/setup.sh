#!/bin/sh
# Installs what the build, the tests and the demo need and this machine lacks (Debian packages, as
# root), or says what is missing.
#
#   scripts/setup.sh            for the demo
#   scripts/setup.sh test       for the tests too
set -eu

need="cc:gcc curl:curl docker-registry:docker-registry umoci:umoci skopeo:skopeo mvn:maven \
busybox:busybox-static podman:podman containerd:containerd dockerd:docker.io crun:crun"
if [ "${1:-demo}" = test ]; then
    need="$need javac:openjdk-17-jdk-headless c++:g++ ip:iproute2 nft:nftables valgrind:valgrind \
abidiff:abigail-tools cmake:cmake pkg-config:pkg-config"
fi

command -v cargo >/dev/null 2>&1 || PATH="$HOME/.cargo/bin:$PATH"
if ! command -v cargo >/dev/null 2>&1; then
    echo "cargo is missing: install Rust 1.95 or later (see the Rust project's site)" >&2
    exit 1
fi
if [ "${1:-demo}" = test ] && ! command -v go >/dev/null 2>&1; then
    echo "go is missing: the tests check the log with Go's own verifiers; install Go 1.23 or later" >&2
    exit 1
fi

missing=""
for pair in $need; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "missing programs; install these Debian packages:$missing" >&2
    exit 1
fi
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# Daemons of the packages must not start by themselves: the tests start their own.
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    made=yes
fi
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing > /dev/null || status=$?
[ -z "$made" ] || rm -f "$policy"
exit "${status:-0}"
