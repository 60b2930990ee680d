#!/bin/sh
# What the tests need of the system: Orthanc, DCMTK and dicom3tools, from Debian or Ubuntu.
set -eu
packages="orthanc orthanc-dicomweb dcmtk dicom3tools"
missing=""
command -v Orthanc >/dev/null 2>&1 || [ -x /usr/sbin/Orthanc ] || missing="$missing Orthanc"
command -v storescu >/dev/null 2>&1 || missing="$missing storescu"
command -v dciodvfy >/dev/null 2>&1 || missing="$missing dciodvfy"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing $packages (missing:$missing)"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086  # the list is meant to be split
    apt-get install -y -qq --no-install-recommends $packages >/dev/null
    exit 0
fi
echo "the tests need peers that are not here ($missing ); as root: apt-get install $packages" >&2
exit 1
