#!/bin/sh
# Install the named packages of Debian or Ubuntu when we may (root); otherwise say in one line what to install.
set -eu
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    exit 0
fi
echo "packages are missing here; as root: apt-get install $*" >&2
exit 1
