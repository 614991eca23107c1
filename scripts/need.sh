#!/bin/sh
# need.sh COMMAND PACKAGE...: install Debian packages when COMMAND is missing ("-" means always).
set -eu
command=$1
shift
[ "$command" != - ] && { command -v "$command" || [ -x "/usr/sbin/$command" ]; } >/dev/null 2>&1 && exit 0
sudo=
if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || {
        echo "missing: $*. Install it first:  sudo apt-get install $*" >&2
        exit 1
    }
    sudo="sudo -n"
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends "$@" >/dev/null
