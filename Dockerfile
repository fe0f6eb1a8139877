# The image of cacheproxy: one static binary and the authorities' certificates, run by a user without a name. There is no shell in it.
#
#   make image

FROM --platform=$BUILDPLATFORM golang:1.26.9 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
ARG TARGETOS
ARG TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o /cacheproxy ./cmd/cacheproxy

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /cacheproxy /cacheproxy
# The chart's runAsUser; a number, so that runAsNonRoot can be checked.
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["/cacheproxy"]
