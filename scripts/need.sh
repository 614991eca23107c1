#!/bin/sh
# need.sh COMMAND=PACKAGE...: install the Debian packages whose COMMAND is missing. COMMAND is a name, a path that may hold
# wildcards, or "-" (always). Only programs are wanted: services that the packages bring are neither started nor enabled.
set -eu
wanted=
for pair in "$@"; do
    command=${pair%%=*}
    case $command in
        -) ;;
        /*) # shellcheck disable=SC2086 # wildcards
            ls $command >/dev/null 2>&1 && continue ;;
        *) { command -v "$command" || [ -x "/usr/sbin/$command" ]; } >/dev/null 2>&1 && continue ;;
    esac
    wanted="$wanted ${pair#*=}"
done
[ -n "$wanted" ] || exit 0

command -v apt-get >/dev/null 2>&1 || {
    echo "missing:$wanted (names of Debian's packages). Install them first, by the means of this system" >&2
    exit 1
}
sudo=
if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || {
        echo "missing:$wanted. Install first:  sudo apt-get install$wanted" >&2
        exit 1
    }
    sudo="sudo -n"
fi
echo "installing$wanted ..." >&2
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then # apt asks it before it starts a service
    printf '#!/bin/sh\nexit 101\n' | $sudo sh -c "cat >$policy && chmod 755 $policy"
    trap '$sudo rm -f $policy' EXIT
    trap 'exit 130' INT TERM
fi
before=$(mktemp)
list_services() { ls /lib/systemd/system/*.service /lib/systemd/system/*.socket 2>/dev/null | sort -u; }
list_services >"$before"
$sudo apt-get update -qq
# shellcheck disable=SC2086 # a list of names
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted >/dev/null
if command -v systemctl >/dev/null 2>&1; then
    list_services | comm -13 "$before" - | while read -r unit; do
        $sudo systemctl --quiet disable "$(basename "$unit")" >/dev/null 2>&1 || true # not at the next boot either
    done
fi
rm -f "$before"
