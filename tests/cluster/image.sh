#!/usr/bin/env bash
# image.sh NAME FOLDER [KEY=VALUE...] -- [ENTRYPOINT...] > image.tar
# Packs a folder as an image of one layer, without Docker: a docker-archive, which `ctr images import`, `docker load`, `kind load` and
# `minikube image load` read. KEY=VALUE: fields of its config, like User=65532:65532.
set -euo pipefail
name=$1 folder=$2; shift 2
config='{}'
while [ "$1" != -- ]; do config=$(jq -c --arg key "${1%%=*}" --arg value "${1#*=}" '.[$key] = $value' <<< "$config"); shift; done
shift
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
tar -C "$folder" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$tmp/layer.tar" .
digest=sha256:$(sha256sum "$tmp/layer.tar" | cut -d' ' -f1)
arch=$(uname -m); case $arch in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; esac
jq -n --arg digest "$digest" --arg arch "$arch" --argjson config "$config" '{
  architecture: $arch, os: "linux", rootfs: {type: "layers", diff_ids: [$digest]},
  config: ($config + {Entrypoint: $ARGS.positional, Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]})
  }' --args "$@" > "$tmp/config.json"
jq -n --arg name "$name" '[{Config: "config.json", RepoTags: [$name], Layers: ["layer.tar"]}]' > "$tmp/manifest.json"
tar -C "$tmp" -c manifest.json config.json layer.tar
