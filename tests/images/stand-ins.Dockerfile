# Images that stand in for those of a registry, made of Debian's packages and of this machine's Rust.
ARG BASE_IMAGE

FROM ${BASE_IMAGE} AS monitoring
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends prometheus prometheus-alertmanager \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o nobody -g nogroup /prometheus /alertmanager

FROM monitoring AS prometheus
USER 65534:65534
ENTRYPOINT ["/usr/bin/prometheus"]

FROM monitoring AS alertmanager
USER 65534:65534
ENTRYPOINT ["/usr/bin/prometheus-alertmanager"]

FROM ${BASE_IMAGE} AS systemd
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ca-certificates python3 systemd \
    && rm -rf /var/lib/apt/lists/*
STOPSIGNAL SIGRTMIN+3

# Its context is the folder of a toolchain, `rustc --print sysroot`.
FROM ${BASE_IMAGE} AS rust
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ca-certificates gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY bin /usr/local/bin
COPY lib /usr/local/lib
