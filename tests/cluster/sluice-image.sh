#!/usr/bin/env bash
# sluice-image.sh NAME BINARIES > image.tar
# The image of the root Dockerfile, made without Docker from binaries that are there (a folder with sluice and sluice-operator): user, entry
# point and paths are those of the Dockerfile; the binaries are stripped; of its Debian only what they load is in it.
set -euo pipefail
. "$(dirname "$0")/env.sh"
name=$1 binaries=$2 dockerfile=$here/../../Dockerfile
user=$(sed -n 's/^USER //p' "$dockerfile")
entrypoint=$(sed -n 's/^ENTRYPOINT \["\(.*\)"\]$/\1/p' "$dockerfile")
to=$(sed -n 's/^COPY --from=build .*sluice-operator \(.*\)$/\1/p' "$dockerfile")
[ -n "$user" ] && [ -n "$entrypoint" ] && [ -n "$to" ] || die "the Dockerfile has no USER, ENTRYPOINT or COPY of the binaries as they were"
root=$(mktemp -d); trap 'rm -rf "$root"' EXIT
mkdir -p "$root$to" "$root/tmp" "$root/etc/ssl/certs"
chmod 755 "$root"; chmod 1777 "$root/tmp"
for program in sluice sluice-operator; do
  strip -o "$root$to$program" "$binaries/$program"
  # What it loads, at the paths under which it looks for them.
  ldd "$binaries/$program" | grep -oE '/[^ ]+' | while read -r library; do install -D "$library" "$root$library"; done
done
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
printf 'root:x:0:0:root:/:/\nnonroot:x:65532:65532:nonroot:/tmp:/\n' > "$root/etc/passwd"
cp -r /usr/share/zoneinfo "$root/zoneinfo" 2> /dev/null && { mkdir -p "$root/usr/share"; mv "$root/zoneinfo" "$root/usr/share/"; }
"$here/image.sh" "$name" "$root" "User=$user" -- "$entrypoint"
