#!/bin/sh
# This is not crictl of cri-tools. It is a stand-in that nodekiln puts into images whose
# distribution has no cri-tools. It answers the few questions that kubeadm asks, through
# containerd's own ctr, and refuses all others. It does not speak CRI.
set -eu

usage() {
	cat <<'USAGE'
crictl (stand-in written by nodekiln; not crictl of cri-tools)

Usage: crictl [--runtime-endpoint ADDRESS] [--image-endpoint ADDRESS] COMMAND

  info                is containerd there
  version             version of this stand-in and of containerd
  images [-q]         names of the images (-q: ids)
  inspecti NAME...    name and id of each image; fails if one is not there
  pull NAME           does nothing for an image that is there, else pulls it with ctr
  pods [-q]           pod sandboxes
  ps [-a] [-q]        containers that run (-a: all)
  stopp POD...        kills what runs in pods, and takes their networks' namespaces away; a plugin
                      that keeps a list of addresses is not told
  rmp [-f] POD...     removes pods that are stopped, with their containers (-f: stops them first)

Anything else is refused. Install cri-tools for the real program.
USAGE
}

refuse() {
	echo "crictl (stand-in): $1" >&2
	exit 1
}

socket=/run/containerd/containerd.sock
quiet=
all=
force=

while [ $# -gt 0 ]; do
	case $1 in
	-r | --runtime-endpoint | -i | --image-endpoint)
		[ $# -ge 2 ] || refuse "$1 needs an address"
		socket=${2#unix://}
		shift 2
		;;
	--runtime-endpoint=* | --image-endpoint=*)
		socket=${1#*=}
		socket=${socket#unix://}
		shift
		;;
	-h | --help | help)
		usage
		exit 0
		;;
	-v | --version)
		echo "crictl stand-in of nodekiln"
		exit 0
		;;
	-*) refuse "unknown option $1" ;;
	*) break ;;
	esac
done
[ $# -gt 0 ] || { usage >&2; exit 1; }
command=$1
shift

ctr() {
	command ctr --address "$socket" --namespace k8s.io "$@"
}

# The options that kubeadm gives after the command; what is left are operands.
while [ $# -gt 0 ]; do
	case $1 in
	-q | --quiet) quiet=1; shift ;;
	-a | --all) all=1; shift ;;
	-aq | -qa) all=1; quiet=1; shift ;;
	-f | --force) force=1; shift ;;
	-h | --help) usage; exit 0 ;;
	-*) refuse "unknown option $1 of $command" ;;
	*) break ;;
	esac
done

present() {
	found=$(ctr images list -q "name==$1")
	[ -n "$found" ]
}

# Ids are the digests of the configs; the store keeps each as a name of its image. Lists are taken
# into variables first: a pipe would hide that ctr failed.
identity() {
	rows=$(ctr images list)
	target=$(echo "$rows" | while read -r name _ digest _; do
		[ "$name" != "$1" ] || echo "$digest"
	done)
	echo "$rows" | while read -r name _ digest _; do
		case $name in sha256:*) [ "$digest" != "$target" ] || echo "$name" ;; esac
	done
}

containers() {
	ctr containers list -q "labels.\"io.cri-containerd.kind\"==$1"
}

# What containerd has about a container or sandbox, as JSON.
described() {
	ctr containers info "$1" 2>/dev/null || refuse "no such pod: $1"
}

# The containers in a pod's sandbox. Those of a pod share a label with it; after a reboot a pod has a second sandbox.
containers_of() {
	facts=$(described "$1")
	uid=$(echo "$facts" | sed -n 's/.*"io.kubernetes.pod.uid": "\([^"]*\)".*/\1/p' | head -n 1)
	[ -n "$uid" ] || refuse "$1 is no pod's sandbox"
	kind='labels."io.cri-containerd.kind"==container'
	known=$(ctr containers list -q "$kind,labels.\"io.kubernetes.pod.uid\"==$uid")
	for one in $known; do
		facts=$(described "$one")
		case $facts in *"\"io.kubernetes.cri.sandbox-id\": \"$1\""*) echo "$one" ;; esac
	done
}

runs() {
	states=$(ctr tasks list) || refuse "containerd does not answer at $socket"
	echo "$states" | while read -r id _ state; do
		[ "$id $state" != "$1 RUNNING" ] || echo "$id"
	done | grep -q .
}

# Kills a container and waits for its end, as CRI does with the containers of a pod that is stopped.
end() {
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		runs "$1" || return 0
		ctr tasks kill --signal SIGKILL "$1" 2>/dev/null || true
		sleep 1
	done
	refuse "$1 does not end"
}

stop_pod() {
	facts=$(described "$1")
	inside=$(containers_of "$1")
	for one in $inside "$1"; do end "$one"; done
	network=$(echo "$facts" | sed -n 's|.*"path": "/\(var/\)\{0,1\}run/netns/\([^"/]*\)".*|\2|p' | head -n 1)
	if [ -n "$network" ]; then
		umount -l "/run/netns/$network" 2>/dev/null || true # a file is no mount after a reboot
		rm -f "/run/netns/$network"
	fi
	shared=$(cut -d ' ' -f 2 /proc/mounts | grep "/sandboxes/$1/shm\$" || true)
	[ -z "$shared" ] || umount -l "$shared"
	echo "Stopped sandbox $1"
}

remove_pod() {
	[ -z "$force" ] || stop_pod "$1"
	inside=$(containers_of "$1")
	for one in $inside "$1"; do
		if runs "$one"; then refuse "$one runs: stop its pod first"; fi
	done
	for one in $inside "$1"; do
		ctr tasks delete --force "$one" >/dev/null 2>&1 || true # CRI may have done so
		ctr containers delete "$one"
	done
	echo "Removed sandbox $1"
}

case $command in
info)
	ctr version >/dev/null || refuse "containerd does not answer at $socket"
	echo '{"status":{"conditions":[{"type":"RuntimeReady","status":true}]},"standIn":"nodekiln"}'
	;;
version)
	echo "Version: stand-in of nodekiln"
	echo "RuntimeName: containerd"
	ctr version
	;;
images)
	names=$(ctr images list -q)
	echo "$names" | while read -r name; do
		case $name in
		"") ;;
		sha256:*) [ -z "$quiet" ] || echo "$name" ;;
		*) [ -n "$quiet" ] || echo "$name" ;;
		esac
	done
	;;
inspecti)
	[ $# -gt 0 ] || refuse "inspecti needs an image"
	for image; do
		present "$image" || refuse "no such image: $image"
		id=$(identity "$image")
		printf '{"status":{"id":"%s","repoTags":["%s"]}}\n' "$id" "$image"
	done
	;;
pull)
	[ $# -eq 1 ] || refuse "pull needs one image"
	present "$1" || ctr images pull "$1" >/dev/null
	echo "Image is up to date for $1"
	;;
pods)
	containers sandbox
	;;
ps)
	tasks=$(ctr tasks list)
	known=$(containers container)
	running=$(echo "$tasks" | while read -r id _ state; do
		[ "$state" != RUNNING ] || echo "$id"
	done)
	echo "$known" | while read -r id; do
		[ -n "$id" ] || continue
		case "$all
$running
" in
		1* | *"
$id
"*) echo "$id" ;;
		esac
	done
	;;
stopp | rmp)
	[ $# -gt 0 ] || refuse "$command needs a pod"
	for pod; do
		case $command in
		stopp) stop_pod "$pod" ;;
		rmp) remove_pod "$pod" ;;
		esac
	done
	;;
*) refuse "$command is not known to this stand-in" ;;
esac
