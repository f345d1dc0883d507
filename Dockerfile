# syntax=docker/dockerfile:1
# Both programs, for processors. Build one with `--target gateway` or `--target worker`.
FROM rust:1.95-bookworm AS build
WORKDIR /src
# That of the image: rust-toolchain.toml asks for tools besides that builds do not need.
ENV RUSTUP_TOOLCHAIN=1.95.0
COPY . .
# What was compiled before is kept between builds, and is no part of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --workspace --bins \
    && install -D -t /out target/release/lapidary target/release/lapidary-worker

FROM debian:bookworm-slim AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home lapidary \
    && install -d -o lapidary /media /models
USER lapidary
WORKDIR /home/lapidary

FROM base AS gateway
COPY --from=build /out/lapidary /usr/local/bin/
EXPOSE 8080 9465
ENTRYPOINT ["lapidary"]
CMD ["serve", "--listen", "0.0.0.0:8080", "--ops-listen", "0.0.0.0:9465"]

FROM base AS worker
COPY --from=build /out/lapidary-worker /usr/local/bin/
ENV HF_HOME=/models
EXPOSE 9464
ENTRYPOINT ["lapidary-worker"]
CMD ["run", "--listen", "0.0.0.0:9464"]
