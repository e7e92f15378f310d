#!/bin/sh
# Imports image archives with the tree's own containerd and lists what its store then has.
#
# Arguments: the configuration, then for each image its archive, its name, the name by digest, the
# config's digest, a label or "-", and whether to "unpack" its layers or to "keep" them packed. The
# namespace is CRI's.
set -eu

config=$1
shift

ctr() {
	command ctr --namespace k8s.io "$@"
}

containerd --config "$config" --log-level warn >&2 &
server=$!
tries=0
until ctr version >/dev/null 2>&1; do
	kill -0 "$server" 2>/dev/null || {
		echo "containerd ended before it answered" >&2
		exit 1
	}
	tries=$((tries + 1))
	[ "$tries" -le 1200 ] || {
		echo "containerd did not answer within a minute" >&2
		exit 1
	}
	sleep 0.05
done

while [ $# -gt 0 ]; do
	archive=$1 name=$2 by_digest=$3 id=$4 label=$5 layers=$6
	shift 6
	if [ "$layers" = unpack ]; then
		ctr images import "$archive" >&2
	else
		ctr images import --no-unpack "$archive" >&2
	fi
	ctr images tag --force "$name" "$by_digest" >&2
	ctr images tag --force "$name" "$id" >&2
	# One by one: ctr of containerd 2 does not hand labels on to a new name.
	for each in "$name" "$by_digest" "$id"; do
		if [ "$label" = - ]; then
			ctr images label "$each" io.cri-containerd.image=managed >&2
		else
			ctr images label "$each" io.cri-containerd.image=managed "$label" >&2
		fi
	done
done

# Deleting a lease in step waits for a collection: the archives' own indexes go.
ctr leases create --id nodekiln >&2
ctr leases delete --sync nodekiln >&2

ctr images list

kill -TERM "$server"
wait "$server"
