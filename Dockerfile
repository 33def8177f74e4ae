# charlstm train, with the versions of constraints.txt, by a user without rights:
#
#   docker build --tag charlstm .
#   docker run --rm --init --user "$(id -u):$(id -g)" --volume "$PWD:/work" charlstm task=lm data.path=book.txt
#
# For a smaller one without CUDA: --build-arg INDEX=... with the index that PyTorch's pages name for CPUs.
FROM python:3.12-slim AS build
ARG INDEX=
WORKDIR /build
RUN python -m venv /opt/charlstm
COPY constraints.txt ./
# what is large comes first, and again only when its version changes
RUN /opt/charlstm/bin/pip install --no-cache-dir ${INDEX:+--extra-index-url "$INDEX"} --constraint constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY conf/ conf/
COPY data/hello.txt data/cities.txt data/
COPY charlstm/ charlstm/
RUN /opt/charlstm/bin/pip install --no-cache-dir ${INDEX:+--extra-index-url "$INDEX"} --constraint constraints.txt ".[sweep]"

FROM python:3.12-slim
COPY --from=build /opt/charlstm /opt/charlstm
# for a user that has no name here
ENV PATH=/opt/charlstm/bin:$PATH HOME=/tmp USER=charlstm
RUN install --directory --owner 1000 /work
USER 1000
WORKDIR /work
ENTRYPOINT ["charlstm", "train"]
