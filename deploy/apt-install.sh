#!/usr/bin/env bash
# apt-install.sh PACKAGE...: installs Debian packages as root, and lets none of them start, stop or restart a service.
# Debian's packages ask /usr/sbin/policy-rc.d before they touch a service. One that says no stands there for the time of
# the installation; what was there before comes back, however this ends.
set -euo pipefail

policy=/usr/sbin/policy-rc.d
mark="# crewfleet: no service is started or stopped while packages are installed"

# One at a time, so that nobody takes another's temporary policy for the machine's own. The lock is on the folder itself.
exec 9<"$(dirname "$policy")"
flock 9

# A run that was killed left its own policy, and perhaps the machine's beside it.
saved=$policy.saved-by-crewfleet
restore() {
    if [ -e "$saved" ]; then mv -f "$saved" "$policy"; else rm -f "$policy"; fi
}
if [ -e "$policy" ] && ! grep -qF "$mark" "$policy"; then
    mv -f "$policy" "$saved"
fi
trap restore EXIT
trap 'exit 130' INT TERM HUP
printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
apt=(apt-get -q -y -o DPkg::Lock::Timeout=300)
"${apt[@]}" update
"${apt[@]}" install --no-install-recommends "$@"
