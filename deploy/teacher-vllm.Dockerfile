# The teacher service with the vllm engine, for GPUs. The build context is the repository:
#   docker build -f deploy/teacher-vllm.Dockerfile .
# vLLM's own image brings CUDA, torch and a compiler for kernels; Preceptor comes on top and changes none of them.

FROM python:3.11-slim AS wheel
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /built /source

ARG VLLM_IMAGE=vllm/vllm-openai:v0.32.0
FROM ${VLLM_IMAGE}
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin preceptor \
 && install -d -o preceptor -g preceptor /secrets
# Options for pip.
ARG PIP_ARGS=""
COPY deploy/ready.py /opt/preceptor/
# What is there stays as it is: pip may add packages, and must not replace torch or vLLM.
RUN --mount=type=bind,from=wheel,source=/built,target=/built \
    pip freeze | grep -iE '^(torch|vllm|transformers)==' >/opt/preceptor/kept.txt \
 && pip install --no-cache-dir ${PIP_ARGS} -c /opt/preceptor/kept.txt "$(echo /built/preceptor-*.whl)[teacher]"
# Models come from folders, never from a hub.
ENV HOME=/tmp HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 PRECEPTOR_TEACHER_HOST=0.0.0.0
USER 10001:10001
EXPOSE 50051 8001
HEALTHCHECK --interval=10s --timeout=5s --start-period=1800s --retries=3 CMD ["python3", "/opt/preceptor/ready.py", "8001"]
ENTRYPOINT ["preceptor", "serve", "teacher"]
