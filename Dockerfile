# One image for every engine: docker build --target tpu --tag IMAGE .    (or cuda, cpu)
# Packages are those of uv.lock, each checked by its hash. The code is that of the build context.
FROM python:3.11-slim-bookworm AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/poison_scaling \
    PYTHONUNBUFFERED=1 \
    PYTHONUTF8=1 \
    UV_LINK_MODE=copy \
    UV_PROJECT_ENVIRONMENT=/opt/venv \
    UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir uv==0.13.9 \
    && useradd --create-home --uid 1000 poison \
    && mkdir /cache \
    && chown poison /cache
WORKDIR /poison_scaling
COPY pyproject.toml uv.lock setup.cfg ./
# Instead of installing the project, which would fetch what builds it.
RUN printf '#!/bin/sh\nexec python -m poison_scaling.cli "$@"\n' > /usr/local/bin/poison-scaling \
    && chmod 755 /usr/local/bin/poison-scaling

FROM base AS cpu-packages
RUN uv sync --frozen --no-cache --no-dev --no-install-project
FROM base AS tpu-packages
RUN uv sync --frozen --no-cache --no-dev --no-install-project --extra tpu
# NVIDIA's libraries come as packages; the driver is the machine's.
FROM base AS cuda-packages
RUN uv sync --frozen --no-cache --no-dev --no-install-project --extra cuda

FROM cpu-packages AS cpu
COPY --chown=poison . .
ENV JAX_PLATFORMS=cpu POISON_SCALING_CACHE=/cache
USER 1000
CMD ["poison-scaling", "--help"]

FROM cuda-packages AS cuda
COPY --chown=poison . .
ENV POISON_SCALING_CACHE=/cache
USER 1000
CMD ["poison-scaling", "--help"]

# TPUs are devices of root: the manifests for Kubernetes say so; elsewhere, run the container with --user root.
FROM tpu-packages AS tpu
COPY --chown=poison . .
ENV POISON_SCALING_CACHE=/cache
USER 1000
CMD ["poison-scaling", "--help"]
