// Command webtest is a web server for system tests, which run it in a guest. It
// speaks HTTP/1, HTTP/2 without TLS and WebSocket, and serves the same on each
// address that it is given.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"golang.org/x/net/websocket"
)

func main() {
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "webtest:", err)
		os.Exit(1)
	}
}

func serve(addresses []string) error {
	failed := make(chan error, len(addresses))
	for _, a := range addresses {
		l, err := net.Listen("tcp", a)
		if err != nil {
			return err
		}
		s := &http.Server{Handler: handler(a), Protocols: new(http.Protocols)}
		s.Protocols.SetHTTP1(true)
		s.Protocols.SetUnencryptedHTTP2(true)
		go func() { failed <- s.Serve(l) }() // ends with the program
	}
	return <-failed
}

// handler serves what a program on an address serves.
func handler(address string) http.Handler {
	next := make(chan bool)
	m := http.NewServeMux()
	m.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from %s as %s\n", address, r.Host)
	})
	// Three events, each of which is sent when somebody asks for the next.
	m.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			http.NewResponseController(w).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	})
	m.HandleFunc("POST /next", func(http.ResponseWriter, *http.Request) { next <- true })
	m.Handle("GET /socket", websocket.Handler(func(c *websocket.Conn) { io.Copy(c, c) }))
	// What is said comes back at once, and what gRPC says at the end behind it.
	m.HandleFunc("POST /echo.Echo/Both", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		http.NewResponseController(w).Flush()
		b := make([]byte, 32<<10)
		for {
			n, err := r.Body.Read(b)
			w.Write(b[:n])
			http.NewResponseController(w).Flush()
			if err != nil {
				break
			}
		}
		w.Header().Set("Grpc-Status", "0")
	})
	return m
}
