#!/bin/sh
# Runs the iptables whose rules the node's kubelet uses: nft or legacy. Rules of one kind are not
# seen by the other, so kube-proxy must not choose by itself. kubelet leaves a hint from 1.24 on and
# a canary before that. The choice is made once and kept in /run.
set -eu

choice=/run/iptables-choice

marked() {
	while read -r line; do
		case $line in
		*KUBE-IPTABLES-HINT* | *KUBE-KUBELET-CANARY*) return 0 ;;
		esac
	done
	return 1
}

if [ -r "$choice" ]; then
	read -r kind <"$choice"
elif xtables-nft-multi iptables-save -t mangle 2>/dev/null | marked; then
	kind=nft
elif xtables-nft-multi ip6tables-save -t mangle 2>/dev/null | marked; then
	kind=nft
elif xtables-legacy-multi iptables-save -t mangle 2>/dev/null | marked; then
	kind=legacy
elif xtables-legacy-multi ip6tables-save -t mangle 2>/dev/null | marked; then
	kind=legacy
else
	kind=
fi
# Without a mark nothing is kept: kubelet may not have started yet. Debian's default is nft.
[ -z "$kind" ] || [ -e "$choice" ] || echo "$kind" >"$choice"

exec "xtables-${kind:-nft}-multi" "${0##*/}" "$@"
