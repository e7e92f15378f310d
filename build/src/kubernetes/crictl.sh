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
*) refuse "$command is not known to this stand-in" ;;
esac
