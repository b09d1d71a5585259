# The command line and the learner: the light client, without torch. docker build -f deploy/learner.Dockerfile .

FROM python:3.11-slim AS wheel
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /built /source

FROM python:3.11-slim
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin preceptor \
 && install -d -o preceptor -g preceptor /work/runs /secrets /secrets/queue /secrets/services /secrets/learner
ARG PIP_ARGS=""
COPY constraints/client.txt /opt/preceptor/constraints.txt
RUN pip install --no-cache-dir ${PIP_ARGS} -r /opt/preceptor/constraints.txt
COPY deploy/make_secrets.sh /opt/preceptor/
RUN --mount=type=bind,from=wheel,source=/built,target=/built \
    pip install --no-cache-dir --no-index -c /opt/preceptor/constraints.txt /built/preceptor-*.whl
ENV HOME=/tmp PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /work
# Ctrl-C and `docker stop` are the same to a learner: it ends with 130 and loses nothing.
STOPSIGNAL SIGINT
# A learner serves nothing that could be asked, so its only health is that it runs.
HEALTHCHECK NONE
ENTRYPOINT ["preceptor"]
