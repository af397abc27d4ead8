package bench

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sinkConfig is what a sink is to be.
type sinkConfig struct {
	// Addresses are how many loopback addresses it listens on, from 127.0.1.1.
	Addresses int    `json:"addresses"`
	CA        string `json:"ca,omitempty"` // with TLS: where to write its certificate
}

// sink is a receiver that answers at once and counts. By the first part of the
// path: "ok" answers 200, "fail" 503, "hang" nothing until the sender gives up,
// "heavy" 200 and is counted by itself.
type sink struct {
	count, refused atomic.Int64
	late           latencyRecord // of "ok"
}

func runSink(_ context.Context, c *conversation) error {
	var config sinkConfig
	if err := c.begin(&config); err != nil {
		return err
	}
	s := &sink{}
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	if config.CA != "" {
		certificate, err := selfSigned(config.CA)
		if err != nil {
			return err
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	}
	port, err := s.listen(server, max(1, config.Addresses))
	if err != nil {
		return err
	}
	if err := c.say(answer{Address: port}); err != nil {
		return err
	}
	return c.serve(func(r request) (answer, error) {
		switch r.Do {
		case "reset":
			s.count.Store(0)
			s.refused.Store(0)
			s.late.take()
			return answer{}, nil
		case "latencies":
			return answer{Count: s.count.Load(), Latencies: s.late.take()}, nil
		default:
			return answer{Count: s.count.Load(), Refused: s.refused.Load()}, nil
		}
	})
}

// listen serves on as many addresses as asked for, all with one port.
func (s *sink) listen(server *http.Server, addresses int) (port string, err error) {
	port = "0"
	secure := server.TLSConfig != nil // serving sets it
	for i := range addresses {
		var config net.ListenConfig
		listener, err := config.Listen(context.Background(), "tcp", net.JoinHostPort(sinkHost(i), port))
		if err != nil {
			return "", err
		}
		_, port, _ = net.SplitHostPort(listener.Addr().String())
		if secure {
			go func() { _ = server.ServeTLS(listener, "", "") }()
			continue
		}
		go func() { _ = server.Serve(listener) }()
	}
	return port, nil
}

// sinkHost is the ith address of the sink.
func sinkHost(i int) string { return fmt.Sprintf("127.0.1.%d", 1+i) }

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	way, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	buffer := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buffer)
	buffer.Reset()
	_, _ = buffer.ReadFrom(r.Body)
	switch way {
	case "fail":
		s.refused.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	case "hang":
		s.refused.Add(1)
		<-r.Context().Done()
	case "heavy":
		s.refused.Add(1)
	default:
		if sent, ok := sentTime(buffer.Bytes()); ok {
			s.late.add(time.Since(sent))
		}
		s.count.Add(1)
	}
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// selfSigned makes a certificate for all the sink's addresses and writes it to
// the file.
func selfSigned(file string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "waypost bench sink"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for i := range 254 {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(sinkHost(i)))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// runClient is the bare client: the same hooks to the same sink, made with
// net/http's transport as it is meant to be used.
func runClient(ctx context.Context, c *conversation) error {
	if err := c.begin(&struct{}{}); err != nil {
		return err
	}
	if err := c.say(answer{}); err != nil {
		return err
	}
	return c.serve(func(r request) (answer, error) {
		transport := &http.Transport{MaxIdleConnsPerHost: 4 * clients, DisableCompression: true, WriteBufferSize: 8 << 10}
		defer transport.CloseIdleConnections()
		if r.CA != "" {
			authorities, err := readCA(r.CA)
			if err != nil {
				return answer{}, err
			}
			transport.TLSClientConfig = &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}
		}
		post := func(i int, due time.Time) error {
			body := event(r.First+i, 1, due)
			if r.Batch > 0 {
				body = batch(r.First+i*r.Batch, r.Batch, 1, due)
			}
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Target, bytes.NewReader(body))
			if err != nil {
				return err
			}
			request.Header["Content-Type"] = []string{"application/json"}
			request.Header["User-Agent"] = []string{"bench"}
			request.Header["X-Hub-Signature-256"] = []string{sign(body)}
			response, err := transport.RoundTrip(request)
			if err != nil {
				return err
			}
			_, _ = io.Copy(io.Discard, response.Body)
			return response.Body.Close()
		}
		return drive(clients, r, post)
	})
}

func readCA(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("no certificate in %s", strconv.Quote(file))
	}
	return pool, nil
}
