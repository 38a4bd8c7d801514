#!/bin/bash
# The runner calls this as its own user before the first step of the job. A
# file tells the host that the container is busy. It is a hint: the job may
# write there too.
set -eu
run=${DAYFLY_RUN:-/run/dayfly}
# Its folder comes while the runner starts (begun).
for ((i = 0; i < 40; i++)); do
	if [ -w "$run/job" ]; then
		date -u +%FT%TZ >"$run/job/started" || true
		break
	fi
	sleep 0.05
done

# The runner starts before Docker's socket: the first step must not.
if [ -e /etc/docker/daemon.json ]; then
	for ((i = 0; i < 200; i++)); do
		[ ! -S /run/docker.sock ] || exit 0
		sleep 0.05
	done
	echo "Docker's socket is not there: see journalctl -u docker.socket" >&2
fi
