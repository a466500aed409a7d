// A Go server that loses no request when another version takes its place, of the standard library alone.
//
// What it does for that is what examples/sample-server does; its comments say why. Two things are Go's own:
//
//   - http.Server.Shutdown and SetKeepAlivesEnabled(false) close connections that idle, at once, and with them requests that
//     are on their way. So a stop closes the listener alone, lets each connection have one last answer, and calls Shutdown
//     only after that.
//   - A deadline that is over has a waiting Accept return, and the listener stays: so a gate around it can be closed and
//     opened.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// How long a stop waits for the next request of connections that idle, before they are closed unasked.
const linger = 500 * time.Millisecond

// The first descriptor that systemd hands over: sd_listen_fds(3).
const listenFdsStart = 3

// gate is a listener that accepts while it is open.
type gate struct {
	*net.TCPListener
	lock   sync.Mutex
	opened *sync.Cond
	open   bool
	gone   bool
	inside sync.Mutex // held while an Accept may take a connection
}

func newGate(listener *net.TCPListener, open bool) *gate {
	g := &gate{TCPListener: listener, open: open}
	g.opened = sync.NewCond(&g.lock)
	return g
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		g.lock.Lock()
		for !g.open && !g.gone {
			g.opened.Wait()
		}
		if g.gone {
			g.lock.Unlock()
			return nil, net.ErrClosed
		}
		g.inside.Lock()
		g.lock.Unlock()
		conn, err := g.TCPListener.Accept()
		g.inside.Unlock()
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return conn, err
		}
	}
}

// set opens or closes the gate; when it returns nobody is in between any more.
func (g *gate) set(open, gone bool) {
	g.lock.Lock()
	defer g.lock.Unlock()
	g.open, g.gone = open, gone
	if open {
		g.SetDeadline(time.Time{})
		g.opened.Broadcast()
		return
	}
	g.SetDeadline(time.Now())
	g.inside.Lock()
	g.inside.Unlock()
	g.opened.Broadcast()
}

func listen(shared bool) (*net.TCPListener, error) {
	if shared {
		listener, err := net.FileListener(os.NewFile(listenFdsStart, "listener"))
		if err != nil {
			return nil, err
		}
		return listener.(*net.TCPListener), nil
	}
	// All addresses: where the public port is redirected to it, a connection keeps its address.
	listener, err := net.Listen("tcp", ":"+os.Getenv("PORT"))
	if err != nil {
		return nil, err
	}
	return listener.(*net.TCPListener), nil
}

// notify tells systemd: sd_notify(3).
func notify(text string) {
	if path := os.Getenv("NOTIFY_SOCKET"); path != "" {
		if conn, err := net.Dial("unixgram", path); err == nil {
			conn.Write([]byte(text))
			conn.Close()
		}
	}
}

func main() {
	version := os.Getenv("SLOTD_VERSION")
	if text, err := os.ReadFile("VERSION"); err == nil {
		version = strings.TrimSpace(string(text))
	}
	var leaving atomic.Bool // each answer is its connection's last
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "ok version %s\n", version) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.Error(w, "there is / and /health", http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, "version %s slot %s pid %d\n", version, os.Getenv("SLOTD_SLOT"), os.Getpid())
	})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Before the answer begins: a slow one should ask again when it writes its head.
		if leaving.Load() {
			w.Header().Set("Connection", "close")
		}
		w.Header().Set("X-Version", version)
		mux.ServeHTTP(w, r)
	})}

	// Before READY=1: without a handler each of them ends the process.
	orders := make(chan os.Signal, 8)
	signal.Notify(orders, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2)

	shared := os.Getenv("LISTEN_PID") == fmt.Sprint(os.Getpid()) && os.Getenv("LISTEN_FDS") != "0"
	listener, err := listen(shared)
	if err != nil {
		log.Fatal(err)
	}
	accepts := os.Getenv("SLOTD_ACCEPT") != "signal"
	traffic := newGate(listener, accepts)
	go server.Serve(traffic)
	if path := os.Getenv("HEALTH_SOCKET"); path != "" {
		os.Remove(path)
		health, err := net.Listen("unix", path)
		if err != nil {
			log.Fatal(err)
		}
		go server.Serve(health)
	}
	status := map[bool]string{true: "STATUS=accepting", false: "STATUS=quiet"}
	// In one message: slotd signals nobody who hasn't said whether it accepts.
	notify("READY=1\n" + status[accepts])

	for order := range orders {
		if order == syscall.SIGTERM {
			break
		}
		accepts = order == syscall.SIGUSR1
		leaving.Store(!accepts)
		traffic.set(accepts, false)
		notify(status[accepts])
	}
	leaving.Store(true)
	if shared {
		traffic.set(false, true)
	} // else what waits in a port of its own would be reset: it is taken as long as the rest lingers
	notify("STOPPING=1")
	time.Sleep(linger)
	// What takes longer than TimeoutStopSec= is cut by systemd.
	server.Shutdown(context.Background())
}
