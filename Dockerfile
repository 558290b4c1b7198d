# One image, every role: the command says which.
#
#   docker build -t weighbridge .
#   docker run weighbridge serve gateway | serve aggregator | serve control | init | …
#
# The store and the database are outside (REDIS_URL, DATABASE_URL); compose.yaml puts everything together.
# Every dependency comes as a wheel; the compiler of the build stage is for the hot path (docs/operations.md, "Compiled").

FROM python:3.11-slim-bookworm AS build
RUN python -m venv /opt/weighbridge
ENV PATH=/opt/weighbridge/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
# The dependencies change seldom and have a layer of their own.
COPY requirements/core.lock ./
RUN pip install --only-binary :all: --require-hashes -r core.lock
COPY pyproject.toml ./
COPY LICENSE README.md ./
COPY metering ./metering
COPY billing ./billing
COPY gateway ./gateway
COPY aggregator ./aggregator
COPY config ./config
COPY weighbridge ./weighbridge
RUN pip install --no-deps .
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
    && pip install --only-binary :all: --target /opt/compiling "mypy>=2.4" "setuptools>=77" \
    && PYTHONPATH=/opt/compiling weighbridge compile

FROM python:3.11-slim-bookworm
# The data folder is made for the user, so that a volume mounted there for the first time is the user's too.
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/weighbridge --shell /usr/sbin/nologin weighbridge \
    && install -d -o weighbridge -g weighbridge -m 0700 /var/lib/weighbridge
COPY --from=build /opt/weighbridge /opt/weighbridge
COPY config/gateway.yaml config/meters.yaml config/plans.yaml /etc/weighbridge/
ENV PATH=/opt/weighbridge/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    WEIGHBRIDGE_COMPILED=yes \
    WEIGHBRIDGE_CONFIG=/etc/weighbridge \
    WEIGHBRIDGE_DATA_DIR=/var/lib/weighbridge \
    WEIGHBRIDGE_HOST=0.0.0.0
USER 10001:10001
WORKDIR /var/lib/weighbridge
# A gateway's journals lie here: what was admitted and is not yet in Redis. Keep it with the gateway.
VOLUME /var/lib/weighbridge
EXPOSE 8080 8081 9090
# The gateway's; another role names its own port. Alive, not ready: a gateway without its store decides by its failure rules.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9090/healthz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["weighbridge"]
CMD ["serve", "gateway"]
