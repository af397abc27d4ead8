// Command receiver is a small webhook receiver to try Waypost with: it prints
// each hook it gets and, given a secret, checks Meta's signature on it.
//
//	go run ./examples/receiver -listen 127.0.0.1:9000
//
// -fail 2 makes it refuse the first two hooks, to watch them being sent again.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9000", "address to listen on")
	secret := flag.String("secret", "", "secret that hooks must be signed with; empty: not checked")
	fail := flag.Int64("fail", 0, "how many hooks to refuse with 503 first")
	flag.Parse()

	var count atomic.Int64
	server := &http.Server{Addr: *listen, ReadHeaderTimeout: 5 * time.Second}
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
		if err != nil {
			return
		}
		status := http.StatusOK
		switch n := count.Add(1); {
		case *secret != "" && !signed(*secret, r.Header.Get("X-Hub-Signature-256"), body):
			status = http.StatusUnauthorized
		case n <= *fail:
			status = http.StatusServiceUnavailable
		}
		w.WriteHeader(status)
		fmt.Fprintf(os.Stdout, "%s %s -> %d\n%s\n\n", r.Method, r.URL.Path, status, body)
	})
	fmt.Fprintf(os.Stdout, "Listening on http://%s\n", *listen)
	if err := server.ListenAndServe(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// signed checks the way Meta's documentation tells receivers to.
func signed(secret, header string, body []byte) bool {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hmac.Equal([]byte(header), []byte("sha256="+hex.EncodeToString(mac.Sum(nil))))
}
