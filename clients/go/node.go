package quorate

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"quorate/internal/api"
)

const (
	// connectTimeMax is how long making a connection may take: a few round trips around the world.
	connectTimeMax = time.Second
	// recentTimeMax is how long an answer counts as recent.
	recentTimeMax = time.Second
	// With HTTP/2's default window a large value would cost a round trip for every 64 KiB.
	streamWindowBytes     = 4 << 20
	connectionWindowBytes = 4 * streamWindowBytes
)

// The paths of the wire, whatever the client's messages are called.
const (
	methodInfo        = "/api.Cluster/Info"
	methodGet         = "/api.Cluster/Get"
	methodBatchGet    = "/api.Cluster/BatchGet"
	methodList        = "/api.Cluster/List"
	methodSet         = "/api.Cluster/Set"
	methodDelete      = "/api.Cluster/Delete"
	methodWatch       = "/api.Cluster/Watch"
	methodBatchWrite  = "/api.Cluster/BatchWrite"
	methodAdd         = "/api.Cluster/Add"
	methodTableCreate = "/api.Tables/Create"
	methodTableGet    = "/api.Tables/Get"
	methodTableList   = "/api.Tables/List"
	methodTableDrop   = "/api.Tables/Drop"
	methodHealth      = "/api.Node/Health"
)

// node is one node as the client sees it: its connection, and whether it answered recently. That is only a hint for choosing
// among nodes: if all are avoided, all of them are tried.
type node struct {
	address string
	conn    *grpc.ClientConn
	token   func(context.Context) (string, error)

	mu         sync.Mutex
	answeredAt time.Time
	isAvoided  bool
}

func newNode(address string, options *options) (*node, *Error) {
	target, isEncrypted, problem := parseAddress(address, options.tls != nil)
	if problem != nil {
		return nil, problem
	}
	if options.token != nil && !isEncrypted && !isThisMachine(hostOf(target)) {
		return nil, invalid("address %q: a token is not sent to another machine without TLS: give WithTLSFiles, with the CA of the cluster", address)
	}
	creds := insecure.NewCredentials()
	if isEncrypted {
		config := options.tls
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		creds = credentials.NewTLS(config)
	}
	// The name is looked up at each connection.
	conn, err := grpc.NewClient("passthrough:///"+target,
		grpc.WithTransportCredentials(creds),
		// The library would send again what may have happened.
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		grpc.WithUserAgent("quorate-go/0.1.0"),
		grpc.WithInitialWindowSize(streamWindowBytes),
		grpc.WithInitialConnWindowSize(connectionWindowBytes),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax)),
		// A cut that TCP does not report is found within seconds. The library accepts no shorter interval.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 2 * time.Second, PermitWithoutStream: true}),
		// A node that comes back is found within a second.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: connectTimeMax,
		}),
	)
	if err != nil {
		return nil, invalid("address %q: %v", address, err)
	}
	return &node{address: address, conn: conn, token: options.token}, nil
}

func parseAddress(address string, wantsTLS bool) (target string, isEncrypted bool, problem *Error) {
	bad := func(what string) (string, bool, *Error) {
		return "", false, invalid("address %q: %s; host:port is accepted, such as 127.0.0.1:8001", address, what)
	}
	scheme, authority, found := strings.Cut(address, "://")
	if !found {
		scheme, authority = "", address
	}
	if found && scheme != "http" && scheme != "https" {
		return bad("only http and https are supported")
	}
	if scheme == "http" && wantsTLS {
		return bad("http has no encryption, and TLS is asked for")
	}
	parsed, err := url.Parse("//" + authority)
	if err != nil {
		return bad("it does not parse")
	}
	if (parsed.Path != "" && (parsed.Path != "/" || !found)) || parsed.RawQuery != "" || parsed.Fragment != "" || parsed.User != nil {
		return bad("a path is not accepted")
	}
	if parsed.Hostname() == "" {
		return bad("the host is missing")
	}
	port := parsed.Port()
	if port == "" {
		return bad("the port is missing")
	}
	if len(port) > 5 || (len(port) == 5 && port > "65535") {
		return bad("the port is above 65535")
	}
	return parsed.Host, scheme == "https" || wantsTLS, nil
}

// hostOf is the host of an address that was parsed.
func hostOf(target string) string {
	host, _, _ := net.SplitHostPort(target)
	return host
}

func (n *node) failure(code codes.Code, message string) *NodeFailure {
	return &NodeFailure{Address: n.address, Message: message, Code: code}
}

// outgoing adds the token to the context of a call.
func (n *node) outgoing(ctx context.Context) (context.Context, error) {
	if n.token == nil {
		return ctx, nil
	}
	token, err := n.token(ctx)
	if err != nil {
		return nil, status.Errorf(codes.Unauthenticated, "there is no token: %v", err)
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), nil
}

// ask sends a request that has no effect.
func (n *node) ask(ctx context.Context, method string, request, answer proto.Message) *verdict {
	ctx, err := n.outgoing(ctx)
	if err == nil {
		err = n.conn.Invoke(ctx, method, request, answer)
	}
	if err != nil {
		return judgeRead(failureOf(n.address, err))
	}
	return nil
}

// sendOnce sends a write once. Another node may be tried only if it certainly did not happen.
//
// The library is given the message only once it has a stream on a connection. So a failure before that proves that no node
// will ever see the message, whatever it says.
func (n *node) sendOnce(ctx context.Context, method string, request, answer proto.Message) *verdict {
	ctx, err := n.outgoing(ctx)
	if err != nil {
		return judgeRead(failureOf(n.address, err))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := n.conn.NewStream(ctx, &grpc.StreamDesc{}, method)
	if err != nil {
		return tryNext(failureOf(n.address, err))
	}
	// Whatever the node or the connection does from here on, RecvMsg has the status.
	if err := stream.SendMsg(request); err != nil && err != io.EOF {
		return judgeWrite(failureOf(n.address, err))
	}
	if err := stream.RecvMsg(answer); err != nil {
		return judgeWrite(failureOf(n.address, err))
	}
	return nil
}

func (n *node) health(ctx context.Context) (*api.HealthResponse, *verdict) {
	answer := new(api.HealthResponse)
	verdict := n.ask(ctx, methodHealth, &api.HealthRequest{}, answer)
	return answer, verdict
}

// recordAnswer records that the node answered: it is avoided no longer.
func (n *node) recordAnswer() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answeredAt, n.isAvoided = time.Now(), false
}

// avoid records that the node failed, or has not answered for a while. It reports whether it was not avoided before.
func (n *node) avoid() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	wasAvoided := n.isAvoided
	n.answeredAt, n.isAvoided = time.Time{}, true
	return !wasAvoided
}

func (n *node) avoided() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.isAvoided
}

func (n *node) answeredRecently() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.isAvoided && !n.answeredAt.IsZero() && time.Since(n.answeredAt) < recentTimeMax
}

// stream is the answers of one call, each within a time.
type stream struct {
	node   *node
	parent context.Context
	cancel context.CancelFunc
	client grpc.ClientStream
}

// openStream begins a call, which the node must have taken within a time.
func (n *node) openStream(parent context.Context, method string, request proto.Message, within time.Duration) (*stream, *verdict) {
	ctx, cancel := context.WithCancel(parent)
	s := &stream{node: n, parent: parent, cancel: cancel}
	verdict := s.within(within, func() error {
		ctx, err := n.outgoing(ctx)
		if err != nil {
			return err
		}
		s.client, err = n.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
		if err != nil {
			return err
		}
		if err := s.client.SendMsg(request); err != nil && err != io.EOF {
			return err
		}
		if err := s.client.CloseSend(); err != nil {
			return err
		}
		// Where there is no header, the next answer has the failure.
		_, err = s.client.Header()
		return err
	})
	if verdict != nil {
		s.cancel()
		return nil, verdict
	}
	return s, nil
}

// next reads the next answer. io.EOF is a failure: no stream of the API is read to its end.
func (s *stream) next(answer proto.Message, within time.Duration) *verdict {
	verdict := s.within(within, func() error { return s.client.RecvMsg(answer) })
	if verdict == nil {
		s.node.recordAnswer()
	}
	return verdict
}

func (s *stream) within(limit time.Duration, work func() error) *verdict {
	timer := time.AfterFunc(limit, s.cancel)
	err := work()
	isLate := !timer.Stop()
	switch {
	case err == nil:
		return nil
	case isLate && s.parent.Err() == nil:
		return tryNext(s.node.failure(codes.DeadlineExceeded, "no answer before the deadline"))
	default:
		return judgeRead(failureOf(s.node.address, err))
	}
}
