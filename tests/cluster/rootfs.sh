#!/usr/bin/env bash
# rootfs.sh BINARIES ROOT: all that the image holds, as files below ROOT: `sluice` and `sluice-operator` of the folder BINARIES, stripped, the
# libraries that they load, certificates, time zones, and a user. The Dockerfile calls it, and sluice-image.sh for tests: both make the same image.
set -euo pipefail
binaries=$1 root=$2
mkdir -p "$root/usr/local/bin" "$root/tmp" "$root/etc/ssl/certs" "$root/usr/share"
chmod 755 "$root"; chmod 1777 "$root/tmp"
for program in sluice sluice-operator; do
  strip -o "$root/usr/local/bin/$program" "$binaries/$program"
  # What it loads, at the paths under which it looks for them.
  ldd "$binaries/$program" | grep -oE '/[^ ]+' | while read -r library; do install -D "$library" "$root$library"; done
done
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp -r /usr/share/zoneinfo "$root/usr/share/"
printf 'root:x:0:0:root:/:/\nnonroot:x:65532:65532:nonroot:/tmp:/\n' > "$root/etc/passwd"
