# One image for every component of Tenure; the command chooses: tenure serve ratelimiter.
#
# Both stages stand on the same base, so the interpreter of the virtual environment is where it was.
# Dependencies come from requirements.lock alone, each checked against its hash, as wheels; nothing
# is built from source and no installer stays in the image. It runs as a numeric user that is not root
# and writes nowhere but /tmp, so the root file system may be read-only.
# BASE is any Linux with Python 3.11.3 or newer and its venv module.
ARG BASE=docker.io/library/python:3.13-slim-bookworm

FROM ${BASE} AS build
# A package index of your own, where there is one: --build-arg PIP_INDEX_URL=...
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
COPY requirements.lock /build/requirements.lock
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --require-hashes --only-binary :all: --requirement /build/requirements.lock \
    && /opt/venv/bin/pip uninstall --yes pip
COPY shared /app/shared
COPY services /app/services
COPY pyproject.toml /build/pyproject.toml
# The packages run from /app as they lie in the repository; the metadata lets them know their version.
RUN /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /app \
    && /opt/venv/bin/python -c "from pathlib import Path; from tomllib import loads; \
        version = loads(Path('/build/pyproject.toml').read_text())['project']['version']; \
        metadata = Path(f'/app/tenure-{version}.dist-info/METADATA'); metadata.parent.mkdir(); \
        metadata.write_text(f'Metadata-Version: 2.1\nName: tenure\nVersion: {version}\n')" \
    && printf '#!/bin/sh\nexec python -m shared.cli "$@"\n' > /opt/venv/bin/tenure \
    && chmod 0755 /opt/venv/bin/tenure

FROM ${BASE}
LABEL org.opencontainers.image.title="tenure" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
COPY LICENSE /app/LICENSE
# The admin listener stays on loopback unless it is told otherwise, as everywhere.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TENURE_HOST=0.0.0.0 \
    TENURE_DATA_DIR=/tmp/tenure
WORKDIR /app
USER 10001:10001
EXPOSE 7101 7102 7103 7201 7202 7203
STOPSIGNAL SIGTERM
ENTRYPOINT ["tenure"]
CMD ["serve", "ratelimiter"]
