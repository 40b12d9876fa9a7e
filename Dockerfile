# A static program, the certificates that it verifies origins with, and nothing
# else: no shell, no package manager, no root.
#
#   docker build -t holdfast .
#   docker run --rm -p 127.0.0.1:8080:8080 -v holdfast:/home/holdfast \
#     -v "$PWD/shop.yaml:/etc/holdfast/holdfast.yaml:ro" -e ALICE_PASS holdfast
#
# Whoever reaches the port uses the sessions: publish it on 127.0.0.1 as above, or
# set proxy_password in the file. Logins in a browser need a browser, which is
# not here.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/holdfast ./cmd/holdfast \
 && mkdir -p /out/home /out/tmp && chmod 1777 /out/tmp

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/holdfast /usr/bin/holdfast
# Bodies that wait to be sent again lie in unlinked files.
COPY --from=build /out/tmp /tmp
COPY --from=build --chown=65532:65532 /out/home /home/holdfast
USER 65532:65532
ENV HOLDFAST_HOME=/home/holdfast
VOLUME /home/holdfast
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/holdfast"]
CMD ["serve", "-c", "/etc/holdfast/holdfast.yaml", "--listen", "0.0.0.0:8080", "--ui", "off"]
