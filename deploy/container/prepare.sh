#!/bin/sh
# Inside the image: names on the PATH, the user, and what has to be writable. Everything else may be read-only.
set -eu
package=/opt/outrider/node_modules/outrider
ln -s "$package/bin/outrider" /usr/local/bin/outrider
for tool in "$package"/bin/daemontools/*; do ln -s "$tool" "/usr/local/bin/${tool##*/}"; done

printf 'outrider:x:10001:10001::/nonexistent:/usr/sbin/nologin\n' >>/etc/passwd
printf 'outrider:x:10001:\n' >>/etc/group

# The state of the supervisor is made here at its start; any user may run the image.
mkdir -m 1777 /run/outrider
for service in web web/log proxy proxy/log; do
  ln -s "/run/outrider/supervise-$(printf '%s' "$service" | tr / -)" "/service/$service/supervise"
  chmod 755 "/service/$service/run"
done
mkdir -p /opt/outrider/cache
chown 10001:10001 /opt/outrider/cache
