# contour-ai in a container: CPU by default, CUDA with
#   docker build --build-arg TORCH_INDEX_URL=https://download.pytorch.org/whl/cu126 -t contour-ai:cuda .
#   docker run --rm --gpus all -v "$PWD:/data" contour-ai:cuda predict /data/patient --out /data/out
FROM debian:bookworm-slim

# libgl1 and libglib2.0-0: OpenCV, which rt-utils brings.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      python3 python3-pip python3-venv libgl1 libglib2.0-0 \
 && rm -rf /var/lib/apt/lists/*

# Where torch comes from; empty takes the default index of pip.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG TORCH=torch>=2.6

RUN python3 -m venv /opt/contour-ai
ENV PATH=/opt/contour-ai/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1

RUN pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$TORCH"

COPY pyproject.toml README.md LICENSE /src/
COPY contour_ai /src/contour_ai
COPY models /src/models
# Extras, such as node (deploy/compose.yaml) or node,seg.
ARG EXTRAS=
RUN pip install "/src${EXTRAS:+[$EXTRAS]}" && rm -rf /src

# /var/lib/contour-ai: the node's storage, for a volume.
RUN useradd --create-home --uid 1000 contour && install -d -o contour -g contour -m 700 /var/lib/contour-ai
USER contour
WORKDIR /data
ENTRYPOINT ["contour-ai"]
CMD ["--help"]
