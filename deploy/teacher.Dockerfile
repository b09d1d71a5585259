# The teacher service. The build context is the repository: docker build -f deploy/teacher.Dockerfile .
#
# Down to the line "this service" the Dockerfiles of all services are the same text, so that their images share those
# layers; torch is by far the largest part of them.

FROM python:3.11-slim AS wheel
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /built /source

FROM python:3.11-slim
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin preceptor \
 && install -d -o preceptor -g preceptor /weights /secrets
# Options for pip, such as an index with a CPU build of torch.
ARG PIP_ARGS=""
COPY constraints/services.txt /opt/preceptor/constraints.txt
RUN pip install --no-cache-dir ${PIP_ARGS} -r /opt/preceptor/constraints.txt
COPY deploy/ready.py /opt/preceptor/
RUN --mount=type=bind,from=wheel,source=/built,target=/built \
    pip install --no-cache-dir --no-index -c /opt/preceptor/constraints.txt "$(echo /built/preceptor-*.whl)[teacher,rollout,student]"
# Models come from folders, never from a hub.
ENV HOME=/tmp HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
USER 10001:10001

# ---- this service
ENV PRECEPTOR_TEACHER_HOST=0.0.0.0 PRECEPTOR_TEACHER_WEIGHTS_ROOTS=/weights
EXPOSE 50051 8001
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 CMD ["python", "/opt/preceptor/ready.py", "8001"]
ENTRYPOINT ["preceptor", "serve", "teacher"]
