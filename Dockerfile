# syntax=docker/dockerfile:1
ARG PYTHON=3.12

# ---- build: a virtual environment with the compiled Pillion in it; compilers and caches stay behind
FROM python:${PYTHON} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/pillion
# The dependencies change less often than the code, so they are a layer of their own.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY proxy/__init__.py proxy/__init__.py
RUN /opt/pillion/bin/pip install --constraint constraints.txt .
COPY proxy proxy
RUN HATCH_BUILD_HOOKS_ENABLE=1 /opt/pillion/bin/pip install --no-deps --force-reinstall . \
 && /opt/pillion/bin/python -Ic 'from proxy.build import BUILD; assert BUILD == "compiled"' \
 && /opt/pillion/bin/pip check \
 && /opt/pillion/bin/python -m compileall -q /opt/pillion/lib

# ---- run
FROM python:${PYTHON}-slim
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Pillion" \
      org.opencontainers.image.description="A sidecar that makes an unmodified model server faster" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/pillion /opt/pillion
ENV PATH="/opt/pillion/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE=1
# A number, so that Kubernetes' runAsNonRoot can check it; it needs no name and no home.
USER 65532:65532
WORKDIR /
# Where the defaults listen; the configuration decides.
EXPOSE 8080 9901
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["pillion", "healthcheck"]
ENTRYPOINT ["pillion"]
CMD ["serve", "-c", "/etc/pillion/pillion.yaml"]
