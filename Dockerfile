# A classifier that serves, with nothing to download when it starts:
#   gpt-classifier export --checkpoint latest --to bundle --out spam
#   docker build --build-arg BUNDLE=spam -t spam .
#   (of an export to ONNX: --build-arg EXTRAS=serve,onnx)
#   docker run -p 127.0.0.1:8000:8000 -e GPT_CLASSIFIER_API_KEY=… spam
FROM python:3.11-slim AS build
WORKDIR /build
ARG EXTRAS=serve
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
COPY conf conf
# torch for the CPU alone is a tenth of the size; the extra index has it under the same version
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --constraint constraints.txt \
      --extra-index-url https://download.pytorch.org/whl/cpu "torch==$(sed -n 's/^torch==//p' constraints.txt)+cpu" \
 && /venv/bin/pip install --no-cache-dir --constraint constraints.txt ".[$EXTRAS]"

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 classifier
COPY --from=build /venv /venv
ARG BUNDLE
COPY --chown=root:root ${BUNDLE} /bundle
USER classifier
WORKDIR /home/classifier
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["gpt-classifier", "serve", "--checkpoint", "/bundle", "--host", "0.0.0.0"]
