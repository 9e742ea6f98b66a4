#!/bin/sh
# Gathers Apache in a folder: the server, modules for serving files (log_config and unixd are compiled in), the libraries that the image's base has
# not, and their licences.
# The Debian package would bring Perl and ICU along, which serving files needs none of: 100 MB.
set -eu
out=$1
modules="mpm_event authz_core dir mime autoindex reqtimeout headers deflate filter setenvif remoteip"

before=$(mktemp)
find /usr/lib -name '*.so*' | sort >"$before"
apt-get update
apt-get install -y --no-install-recommends apache2-bin media-types

# take FILE: with its folders, under /usr also where the system calls it /lib.
take() {
  target=$out$(printf '%s' "$1" | sed 's,^/lib,/usr/lib,')
  mkdir -p "$(dirname "$target")"
  cp -L "$1" "$target"
}
# The package may know its file as /lib/... or as /usr/lib/...
licence() {
  file=$(readlink -f "$1")
  package=$(dpkg -S "$file" 2>/dev/null || dpkg -S "${file#/usr}")
  take "/usr/share/doc/${package%%:*}/copyright"
}

set -- /usr/sbin/apache2
for module in $modules; do set -- "$@" "/usr/lib/apache2/modules/mod_$module.so"; done
for file in "$@"; do
  take "$file"
  licence "$file"
done
take /etc/mime.types
for library in $(ldd "$@" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | sort -u); do
  grep -qx "$(printf '%s' "$library" | sed 's,^/lib,/usr/lib,')" "$before" && continue
  take "$library"
  licence "$library"
done
