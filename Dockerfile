# The market, the agent and the `orbyte` command in one image: `docker build -t orbyte .`
# docs/guides/operator.md says how to run a market with it, docs/guides/provider.md how to offer a GPU.

# Another Node.js, a mirror, or an image by its digest: any Debian with npm.
ARG NODE_IMAGE=docker.io/library/node:24-slim

FROM ${NODE_IMAGE} AS manifests
WORKDIR /opt/orbyte
COPY package.json package-lock.json .npmrc ./
COPY protocol/package.json protocol/
COPY server/package.json server/
COPY agent/package.json agent/
COPY sdk/package.json sdk/
COPY cli/package.json cli/
COPY web/package.json web/
COPY scripts/postinstall.mjs scripts/stamps.mjs scripts/

FROM manifests AS build
RUN npm ci --no-audit --no-fund
COPY . .
RUN npm run build

FROM manifests AS packages
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund

FROM ${NODE_IMAGE}
# What NVIDIA's Vulkan driver, which comes from the host, asks of the system.
RUN apt-get update \
  && apt-get install -y --no-install-recommends libvulkan1 libx11-6 libxext6 \
  && rm -rf /var/lib/apt/lists/* /var/log/*

WORKDIR /opt/orbyte
COPY LICENSE package.json ./
COPY models models
COPY --from=packages /opt/orbyte/node_modules node_modules
COPY --from=build /opt/orbyte/dist dist
RUN chmod +x dist/orbyte.js \
  && ln -s /opt/orbyte/dist/orbyte.js /usr/local/bin/orbyte \
  && install -d -o 1000 -g 1000 -m 700 /data

# Everything that is to last is written below /data: a market's database, keys and files, an agent's key and engines, logins.
ENV HOME=/data HOST=0.0.0.0
WORKDIR /data
VOLUME /data
# The `node` of the base image, by number, so that it can be seen that it is not root.
USER 1000:1000
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.PORT || 8000) + '/api/health').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT []
CMD ["orbyte", "serve"]

ARG REVISION=unknown
LABEL org.opencontainers.image.title="Orbyte" \
  org.opencontainers.image.description="A market for GPU time: the market, the agent and the command line" \
  org.opencontainers.image.licenses="MIT" \
  org.opencontainers.image.revision="${REVISION}"
