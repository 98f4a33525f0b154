# emonet in a container: the steps that README.md gives to a newcomer ("In a container"), and nothing else is built.
#   docker build -t emonet .                              without a GPU
#   docker build -t emonet:cuda --build-arg TORCH_INDEX= .  torch with CUDA, from PyPI; run it with --gpus all
FROM python:3.11-slim-bookworm

RUN apt-get update && apt-get install --yes --no-install-recommends make gcc libc6-dev && rm -rf /var/lib/apt/lists/*

WORKDIR /emonet
COPY . .
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=
RUN make install TORCH_INDEX="$TORCH_INDEX" EXTRAS="$EXTRAS"

# Not as root: what is written lies in runs/, the hub's downloads in .cache/.
RUN useradd --uid 1000 --home-dir /emonet emonet && mkdir -p runs .cache && chown emonet:emonet . runs .cache
USER emonet
ENV PATH=/emonet/.venv/bin:$PATH HOME=/emonet
VOLUME ["/emonet/runs", "/emonet/.cache"]
EXPOSE 5001
ENTRYPOINT ["emonet"]
CMD ["--help"]
