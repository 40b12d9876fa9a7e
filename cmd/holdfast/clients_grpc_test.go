package main

import (
	bigendian "encoding/binary"
	"io"
	"net/http"
	"strconv"
)

// say is a gRPC method by hand: each message comes back at once, and trailers
// say how many there were. The message break is an error of the call.
//
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
func say(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 2 || r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("Te") != "trailers" {
		http.Error(w, "this is not gRPC", http.StatusUnsupportedMediaType)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set("Trailer", "grpc-status, grpc-message, count")
	count := 0
	status, why := "0", ""
	for {
		message, err := readMessage(r.Body)
		if err != nil {
			if err != io.EOF {
				status, why = "13", err.Error()
			}
			break
		}
		if string(message[5:]) == "break" {
			status, why = "9", "it is broken"
			break
		}
		count++
		if _, err := w.Write(message); err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
	}
	h.Set("grpc-status", status)
	h.Set("grpc-message", why)
	h.Set("count", strconv.Itoa(count))
}

// readMessage reads a message with its prefix.
func readMessage(from io.Reader) ([]byte, error) {
	prefix := make([]byte, 5)
	if _, err := io.ReadFull(from, prefix); err != nil {
		return nil, err
	}
	message := append(prefix, make([]byte, min(bigendian.BigEndian.Uint32(prefix[1:]), 4<<20))...)
	_, err := io.ReadFull(from, message[5:])
	return message, err
}
