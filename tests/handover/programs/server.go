// An HTTP server on Go's own library that can be moved from one version to the next behind a shared socket.
//
// It takes the listener that systemd hands over, or binds $PORT, and says READY=1. On SIGTERM it does what
// net/http offers: Shutdown, which cuts connections that idle.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// The first descriptor that systemd hands over: sd_listen_fds(3).
const first = 3

func main() {
	text, err := os.ReadFile("VERSION")
	if err != nil {
		log.Fatal(err)
	}
	version := strings.TrimSpace(string(text))
	slot := os.Getenv("SLOTD_SLOT")
	if slot == "" {
		slot = "-"
	}
	http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(answer, "version %s slot %s pid %d\n", version, slot, os.Getpid())
	})
	http.HandleFunc("/health", func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(answer, "ok version %s\n", version)
	})

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	listener, err := listen()
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{}
	stopped := make(chan error)
	go func() {
		<-stop
		stopped <- server.Shutdown(context.Background())
	}()
	if err := ready(); err != nil {
		log.Fatal(err)
	}
	if err := server.Serve(listener); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	if err := <-stopped; err != nil {
		log.Fatal(err)
	}
}

func listen() (net.Listener, error) {
	if os.Getenv("LISTEN_FDS") == "" {
		return net.Listen("tcp", ":"+os.Getenv("PORT"))
	}
	return net.FileListener(os.NewFile(first, "listener"))
}

func ready() error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	systemd, err := net.Dial("unixgram", path)
	if err != nil {
		return err
	}
	defer systemd.Close()
	_, err = systemd.Write([]byte("READY=1"))
	return err
}
