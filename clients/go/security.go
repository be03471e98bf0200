package quorate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// tokenReadAgainAfter is how long the token of a file counts before the file is read again.
const tokenReadAgainAfter = time.Second

// TLSFiles are the files that [WithTLSFiles] reads, as quorate ca writes them. All are PEM.
type TLSFiles struct {
	// CA has the certificates of the authorities that are believed; without it those of the system.
	CA string
	// Certificate is the client's own certificate, where nodes ask for one.
	Certificate string
	// Key is the key of the client's certificate.
	Key string
	// ServerName is the name that the nodes' certificates have, where it is not the host of their addresses.
	ServerName string
}

// WithTLSFiles encrypts the connections, as [WithTLS], with what the files have. [New] fails with [ErrInvalidInput] where one
// cannot be read. The client's certificate is read again for each connection, so that a new one needs no new client.
func WithTLSFiles(files TLSFiles) Option {
	return func(o *options) {
		config, problem := files.config()
		o.tls, o.problem = config, first(o.problem, problem)
	}
}

func (f TLSFiles) config() (*tls.Config, *Error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.ServerName}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, invalid("a file for TLS: %v", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, invalid("a file for TLS: %s has no certificate", f.CA)
		}
	}
	if f.Certificate == "" && f.Key == "" {
		return config, nil
	}
	last, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return nil, invalid("a certificate and its key: %v", err)
	}
	var mu sync.Mutex
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		// Files that do not fit are being replaced, perhaps. Nodes say whether the certificate before still counts.
		if fresh, err := tls.LoadX509KeyPair(f.Certificate, f.Key); err == nil {
			last = fresh
		}
		certificate := last
		return &certificate, nil
	}
	return config, nil
}

// WithToken sends a token with each call, as authorization: Bearer. Without TLS it goes to this machine alone.
func WithToken(token string) Option {
	return func(o *options) {
		token, problem := checkedToken(token, "the token")
		o.problem = first(o.problem, problem)
		o.token = func(context.Context) (string, error) { return token, nil }
	}
}

// WithTokenSource is as [WithToken], with a function that is called for each call.
func WithTokenSource(source func(context.Context) (string, error)) Option {
	return func(o *options) {
		o.token = func(ctx context.Context) (string, error) {
			token, err := source(ctx)
			if err != nil {
				return "", err
			}
			token, problem := checkedToken(token, "the token")
			if problem != nil {
				return "", problem
			}
			return token, nil
		}
	}
}

// WithTokenFile is as [WithToken], with the token that a file has. The file is read again once a second, so that the client goes
// on with the token that replaces it. [New] fails with [ErrInvalidInput] where there is none.
func WithTokenFile(path string) Option {
	return func(o *options) {
		file := &tokenFile{path: path}
		o.problem = first(o.problem, file.read())
		o.token = file.current
	}
}

type tokenFile struct {
	path string

	mu     sync.Mutex
	token  string
	readAt time.Time
}

func (f *tokenFile) read() *Error {
	f.readAt = time.Now()
	if f.path == "" {
		return invalid("the file of the token has no name")
	}
	text, err := os.ReadFile(f.path)
	if err != nil {
		return invalid("the file of the token: %v", err)
	}
	token, problem := checkedToken(string(text), "the token in "+f.path)
	if problem == nil {
		f.token = token
	}
	return problem
}

func (f *tokenFile) current(context.Context) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.readAt) >= tokenReadAgainAfter {
		// Where it is being replaced, perhaps, the token before counts. Nodes say whether it does.
		_ = f.read()
	}
	return f.token, nil
}

// checkedToken returns the token without the blanks around it. No error has its text.
func checkedToken(token, of string) (string, *Error) {
	token = strings.TrimSpace(token)
	if token == "" {
		return "", invalid("%s is empty", of)
	}
	for _, character := range token {
		if character < '!' || character > '~' {
			return "", invalid("%s has characters that no token has: printable ASCII without blanks is accepted", of)
		}
	}
	return token, nil
}

func isThisMachine(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}
