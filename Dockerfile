# One image with both binaries. `docker build -t sluice .`
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential cmake pkg-config libssl-dev libcurl4-openssl-dev libsasl2-dev zlib1g-dev
WORKDIR /src
COPY . .
RUN cargo build --release -p sluice -p sluice-operator && strip target/release/sluice target/release/sluice-operator

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libssl3 libcurl4 libsasl2-2 zlib1g && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/release/sluice /src/target/release/sluice-operator /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/sluice"]
