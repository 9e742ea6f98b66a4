# A web server (Apache) and the proxy in front of it, supervised, in one container. docs/containers.md explains it.
#
#     docker build -t outrider . && docker run --rm -p 10000:10000 outrider
#
# Also with --read-only --tmpfs /run/outrider, and as any --user.

FROM node:24-bookworm-slim AS node
RUN apt-get update && apt-get install -y --no-install-recommends binutils
# Symbols for debuggers are a sixth of it.
RUN strip --strip-unneeded -o /node /usr/local/bin/node

FROM node:24-bookworm-slim AS package
WORKDIR /src
COPY package.json package-lock.json ./
COPY tools tools
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY . .
RUN npm pack --silent --pack-destination /tmp
RUN npm install --prefix /opt/outrider --omit=dev --ignore-scripts --no-audit --no-fund /tmp/outrider-*.tgz

FROM debian:bookworm-slim AS apache
COPY deploy/container/collect-apache.sh /
RUN sh /collect-apache.sh /collected

FROM debian:bookworm-slim
COPY --from=node /node /usr/local/bin/node
COPY --from=apache /collected/ /
COPY --from=package /opt/outrider /opt/outrider
COPY deploy/container/etc /etc/outrider
COPY deploy/container/www /srv/www
COPY deploy/container/service /service
COPY deploy/container/prepare.sh /
RUN sh /prepare.sh && rm /prepare.sh
# Compiled code is kept here; it is filled below, by the user that will read it.
ENV XDG_CACHE_HOME=/opt/outrider/cache
USER 10001:10001
RUN outrider --mode validate -c /etc/outrider/envoy.yaml && svok /service/web || test $? = 100
LABEL org.opencontainers.image.title="Outrider" \
      org.opencontainers.image.description="A web server and a proxy that runs Envoy configuration, supervised as by daemontools" \
      org.opencontainers.image.licenses="Apache-2.0"
EXPOSE 10000 9902
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["outrider", "ready"]
ENTRYPOINT ["svscan", "/service"]
