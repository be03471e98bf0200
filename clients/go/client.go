package quorate

import (
	"context"
	"crypto/tls"
	"time"

	"google.golang.org/protobuf/proto"

	"quorate/internal/api"
)

// Client is a client of one cluster. Goroutines may share it, and copies that [Client.Table] and [Client.WithDeadline] return
// share its connections.
type Client struct {
	pool     *pool
	deadline time.Duration
	table    string
	// tableProblem is what is wrong with the table's name: the first operation tells.
	tableProblem *Error
}

type options struct {
	deadline time.Duration
	tls      *tls.Config
	token    func(context.Context) (string, error)
	routes   bool
	// problem is what is wrong with an option: New tells.
	problem *Error
}

// Option sets up a client.
type Option func(*options)

// WithDeadline sets how long an operation may take, all tries together: 1 ms to 60 s. Values outside are moved to the ends. The
// default is 5 s. The deadline of an operation's context holds too, if it comes first.
func WithDeadline(deadline time.Duration) Option {
	return func(o *options) { o.deadline = deadline }
}

// WithTLS encrypts the connections. The configuration says which authorities are believed (RootCAs), and which certificate the
// client shows (Certificates). An address https://host:port is encrypted without this option too.
func WithTLS(config *tls.Config) Option {
	return func(o *options) { o.tls = config }
}

// WithRouting sends an operation about one key to a replica of the key, if one is among the client's nodes and answers. That
// saves a hop where the cluster has more nodes than replicas. The client then asks each node every 10 s for the cluster's parameters.
func WithRouting() Option {
	return func(o *options) { o.routes = true }
}

// New makes a client of the cluster that has nodes at these addresses, each as host:port. Name several: the client passes over
// nodes that are down. It connects on first use.
//
// It fails with [ErrInvalidInput] if there is no address, an address does not parse, or a file of an option cannot be read.
func New(addresses []string, opts ...Option) (*Client, error) {
	options := options{deadline: deadlineDefault}
	for _, option := range opts {
		option(&options)
	}
	if options.problem != nil {
		return nil, options.problem
	}
	if len(addresses) == 0 {
		return nil, invalid("no address is given: name at least one node as host:port")
	}
	nodes := make([]*node, 0, len(addresses))
	for _, address := range addresses {
		node, problem := newNode(address, &options)
		if problem != nil {
			for _, node := range nodes {
				_ = node.conn.Close()
			}
			return nil, problem
		}
		nodes = append(nodes, node)
	}
	pool := newPool(nodes)
	if options.routes {
		pool.router = newRouter()
		pool.spawn(func(ctx context.Context) { pool.router.learn(ctx, pool) })
	}
	return &Client{pool: pool, deadline: clamped(options.deadline)}, nil
}

func clamped(deadline time.Duration) time.Duration {
	return min(max(deadline, deadlineMin), deadlineMax)
}

// Close ends the connections, and all that uses them. Clients that share them are closed too. A second call does nothing.
func (c *Client) Close() error {
	c.pool.mu.Lock()
	isClosed := c.pool.closing.Err() != nil
	c.pool.close()
	c.pool.mu.Unlock()
	if isClosed {
		return nil
	}
	var first error
	for _, node := range c.pool.nodes {
		if err := node.conn.Close(); err != nil && first == nil {
			first = err
		}
	}
	c.pool.tasks.Wait()
	return first
}

// WithDeadline returns the same client with another deadline. The connections are shared.
func (c *Client) WithDeadline(deadline time.Duration) *Client {
	other := *c
	other.deadline = clamped(deadline)
	return &other
}

// Table returns the same client bound to another table: all that it reads, writes, lists and watches is there. The connections
// are shared. The table must exist: [Tables.Create] makes it. Operations fail with [ErrInvalidInput] where name is no name of a
// table.
func (c *Client) Table(name string) *Client {
	other := *c
	other.table, other.tableProblem = tableName(name)
	return &other
}

// Tables creates, drops and lists tables.
func (c *Client) Tables() Tables { return Tables{c} }

// GetOption changes a read.
type GetOption func(*api.GetRequest) *Error

// FromOneReplica reads what one replica holds: fast, and with no claim about the others. It may be old, and may be a conditional
// write that has not succeeded and never will.
func FromOneReplica() GetOption {
	return func(r *api.GetRequest) *Error {
		r.Consistency = api.Consistency_ONE
		return nil
	}
}

// AtLeast reads what one replica holds, if that is of this version or later, and the latest value otherwise. With the version of
// the latest answer about the key, a client reads its own writes. It goes backwards only from what one replica has shown it
// and no majority has ever had.
func AtLeast(version string) GetOption {
	return func(r *api.GetRequest) *Error {
		r.Consistency, r.AtLeast = api.Consistency_ONE, &version
		return checkVersion(version)
	}
}

// Get reads the latest value of key. It returns nil if the key has none.
//
// It fails with [ErrInvalidInput], [ErrUnavailable], [ErrNoSuchTable] or [ErrRefused].
func (c *Client) Get(ctx context.Context, key string, opts ...GetOption) (*Versioned, error) {
	state, err := c.State(ctx, key, opts...)
	if err != nil {
		return nil, err
	}
	return state.Found, nil
}

// State reads the state of key: its value if it has one, and its version in any case. It fails as [Client.Get].
func (c *Client) State(ctx context.Context, key string, opts ...GetOption) (*KeyState, error) {
	request := &api.GetRequest{Key: key, Table: c.table}
	if problem := first(c.tableProblem, checkKey(key)); problem != nil {
		return nil, problem
	}
	for _, option := range opts {
		if problem := option(request); problem != nil {
			return nil, problem
		}
	}
	ctx, cancel, op := begin(ctx, c.deadline)
	defer cancel()
	state, err := read(ctx, c.pool, op, c.stored(key), func(ctx context.Context, n *node) (*KeyState, *verdict) {
		answer := new(api.GetResponse)
		if failed := n.ask(ctx, methodGet, request, answer); failed != nil {
			return nil, failed
		}
		return checked[*KeyState](n)(keyState(key, answer))
	})
	return state, orNil(err)
}

// GetResult is what a batch found of one key.
type GetResult struct {
	// Found is the value; nil if the key has none, or was not read.
	Found *Versioned
	// Failure says why the key was not read; nil if it was.
	Failure *NodeFailure
}

// BatchGet reads the latest values of 1 to 1,000 keys, each linearizably and on its own. The results have the order of the keys.
// It fails as [Client.Get], if no key was read.
func (c *Client) BatchGet(ctx context.Context, keys ...string) ([]GetResult, error) {
	problem := c.tableProblem
	for _, key := range keys {
		problem = first(problem, checkKey(key))
	}
	if problem != nil {
		return nil, problem
	}
	ctx, cancel, op := begin(ctx, c.deadline)
	defer cancel()
	request := &api.BatchGetRequest{Keys: keys, Table: c.table}
	results, err := read(ctx, c.pool, op, "", func(ctx context.Context, n *node) ([]GetResult, *verdict) {
		answer := new(api.BatchGetResponse)
		if failed := n.ask(ctx, methodBatchGet, request, answer); failed != nil {
			return nil, failed
		}
		return checked[[]GetResult](n)(batchFound(n, keys, answer))
	})
	return results, orNil(err)
}

// WriteOption is a condition or a time to live of a write. Of several conditions the last one counts.
type WriteOption func(*writeOptions)

type writeOptions struct {
	condition *api.Condition
	version   *string
	ttl       *time.Duration
	since     *string
}

// IfVersion writes only if the key has this version, which an earlier answer gave. The version of an absence is accepted too. Such
// a write takes effect once at most, and the client sends it again where a node dies.
func IfVersion(version string) WriteOption {
	return func(o *writeOptions) {
		o.condition = &api.Condition{Condition: &api.Condition_IfVersion{IfVersion: version}}
		o.version = &version
	}
}

// IfAbsent writes only if the key has no value.
func IfAbsent() WriteOption {
	return func(o *writeOptions) {
		o.condition, o.version = &api.Condition{Condition: &api.Condition_IfAbsent{IfAbsent: true}}, nil
	}
}

// IfPresent writes only if the key has a value.
func IfPresent() WriteOption {
	return func(o *writeOptions) {
		o.condition, o.version = &api.Condition{Condition: &api.Condition_IfPresent{IfPresent: true}}, nil
	}
}

// TTL lets the value expire so long after the write, from 1 ms to 3,650 days: not before, and a little later. A later write
// without one makes it permanent.
func TTL(ttl time.Duration) WriteOption {
	return func(o *writeOptions) { o.ttl = &ttl }
}

// Since is for [Client.Add] alone. It names a version of the key that an earlier answer gave. The addition then counts once, and
// the client sends it again where a node dies. [ErrConditionFailed] says that more than eight conditional writes of the key came
// after that version: take the present one, which the error has.
func Since(version string) WriteOption {
	return func(o *writeOptions) { o.since = &version }
}

func optionsOf(opts []WriteOption) (writeOptions, *Error) {
	var options writeOptions
	for _, option := range opts {
		option(&options)
	}
	var problem *Error
	if options.version != nil {
		problem = checkVersion(*options.version)
	}
	if options.since != nil {
		problem = first(problem, checkVersion(*options.since))
	}
	return options, problem
}

// setRequest returns the request, and whether it may be sent again.
func (c *Client) setRequest(key string, value Value, opts []WriteOption) (*api.SetRequest, bool, *Error) {
	options, problem := optionsOf(opts)
	ttl, bad := duration(options.ttl)
	if problem = first(c.tableProblem, checkKey(key), value.check(), problem, bad, options.unwantedSince()); problem != nil {
		return nil, false, problem
	}
	request := &api.SetRequest{Entry: entryOf(key, value), Table: c.table, Condition: options.condition, Ttl: ttl}
	if options.condition != nil {
		request.RequestId = requestID()
	}
	return request, options.version != nil, nil
}

func (c *Client) deleteRequest(key string, opts []WriteOption) (*api.DeleteRequest, bool, *Error) {
	options, problem := optionsOf(opts)
	if options.ttl != nil {
		problem = first(problem, invalid("a deletion has no time to live"))
	}
	if problem = first(c.tableProblem, checkKey(key), problem, options.unwantedSince()); problem != nil {
		return nil, false, problem
	}
	request := &api.DeleteRequest{Key: key, Table: c.table, Condition: options.condition}
	if options.condition != nil {
		request.RequestId = requestID()
	}
	return request, options.version != nil, nil
}

func (o *writeOptions) unwantedSince() *Error {
	if o.since != nil {
		return invalid("Since is for additions: give IfVersion")
	}
	return nil
}

// Set writes value under key. A majority of the key's replicas then has it on disk.
//
// It fails with [ErrInvalidInput], [ErrNotApplied], [ErrOutcomeUnknown], [ErrNoSuchTable] or [ErrRefused]; with a condition, with
// [ErrConditionFailed].
func (c *Client) Set(ctx context.Context, key string, value Value, opts ...WriteOption) (Acknowledged, error) {
	request, mayBeResent, problem := c.setRequest(key, value, opts)
	if problem != nil {
		return Acknowledged{}, problem
	}
	ctx, cancel, op := begin(ctx, c.deadline)
	defer cancel()
	done, err := c.set(ctx, op, request, mayBeResent, false)
	return done, orNil(err)
}

func (c *Client) set(ctx context.Context, op operation, request *api.SetRequest, mayBeResent, isResend bool) (Acknowledged, *Error) {
	answer := new(api.SetResponse)
	node, err := c.send(ctx, op, request.GetEntry().GetKey(), methodSet, request, answer, mayBeResent, isResend)
	if err != nil {
		return Acknowledged{}, err
	}
	return acknowledged(node, answer)
}

// Delete removes the value of key, if it has one. The conditions and errors are those of [Client.Set].
func (c *Client) Delete(ctx context.Context, key string, opts ...WriteOption) (Acknowledged, error) {
	request, mayBeResent, problem := c.deleteRequest(key, opts)
	if problem != nil {
		return Acknowledged{}, problem
	}
	ctx, cancel, op := begin(ctx, c.deadline)
	defer cancel()
	done, err := c.delete(ctx, op, request, mayBeResent, false)
	return done, orNil(err)
}

func (c *Client) delete(ctx context.Context, op operation, request *api.DeleteRequest, mayBeResent, isResend bool) (Acknowledged, *Error) {
	answer := new(api.DeleteResponse)
	node, err := c.send(ctx, op, request.GetKey(), methodDelete, request, answer, mayBeResent, isResend)
	if err != nil {
		return Acknowledged{}, err
	}
	return acknowledged(node, answer)
}

// Add adds delta to the number of key, and returns the sum. The number is kept as decimal text; a key without a value counts as 0.
//
// Without [Since], an addition whose node dies may end with [ErrOutcomeUnknown]: sent again, it could count twice. With it, the
// client sends it again, and it counts once. It fails as [Client.Set], and with [ErrNotANumber].
func (c *Client) Add(ctx context.Context, key string, delta int64, opts ...WriteOption) (Added, error) {
	options, problem := optionsOf(opts)
	if options.condition != nil {
		problem = first(problem, invalid("an addition has no condition: give Since"))
	}
	ttl, bad := duration(options.ttl)
	if problem = first(c.tableProblem, checkKey(key), problem, bad); problem != nil {
		return Added{}, problem
	}
	request := &api.AddRequest{Key: key, Table: c.table, Delta: delta, Since: options.since, RequestId: requestID(), Ttl: ttl}
	ctx, cancel, op := begin(ctx, c.deadline)
	defer cancel()
	answer := new(api.AddResponse)
	node, err := c.send(ctx, op, key, methodAdd, request, answer, options.since != nil, false)
	if err != nil {
		return Added{}, err
	}
	if answer.GetVersion() == "" {
		return Added{}, &Error{Kind: OutcomeUnknown, Node: node.failure(0, "bad answer: OK without a version")}
	}
	return Added{Value: answer.GetValue(), Version: answer.GetVersion()}, nil
}

// send sends a write: again and again until its outcome is known, if it may be resent.
func (c *Client) send(ctx context.Context, op operation, key, method string, request, answer proto.Message, mayBeResent, isResend bool) (*node, *Error) {
	if !mayBeResent {
		return c.pool.write(ctx, op, c.stored(key), method, request, answer)
	}
	again := proto.Clone(request)
	switch again := again.(type) {
	case *api.SetRequest:
		again.Resend = true
	case *api.DeleteRequest:
		again.Resend = true
	case *api.AddRequest:
		again.Resend = true
	}
	return c.pool.writeUntilKnown(ctx, op, c.stored(key), method, func(resend bool) proto.Message {
		if resend || isResend {
			return again
		}
		return request
	}, answer)
}

// Update changes a value depending on what it is: it reads the key, asks change for the new value, and writes that if the key has
// not changed meanwhile. If it has, all is done again, until the deadline. Without a value from change, the key is left alone, and
// the result is nil.
//
// change may be called several times. Its error ends the update, and is returned as it is. The change takes effect once at most.
// Update fails as [Client.Get] and [Client.Set], and with [ErrConditionFailed] if others changed the key each time, until the
// deadline.
func (c *Client) Update(ctx context.Context, key string, change func(old *Versioned) (*Value, error)) (*Acknowledged, error) {
	ctx, cancel, op := begin(ctx, c.deadline)
	defer cancel()
	pauses := betweenContenders()
	for {
		state, err := c.State(ctx, key)
		if err != nil {
			return nil, err
		}
		value, err := change(state.Found)
		if err != nil || value == nil {
			return nil, err
		}
		// The version holds for one change only, so that this one is not made twice, however often it is sent.
		done, err := c.Set(ctx, key, *value, IfVersion(state.Version))
		if err == nil {
			return &done, nil
		}
		if failed, ok := err.(*Error); !ok || failed.Kind != ConditionFailed || !pauses.wait(ctx, op.deadline) {
			return nil, err
		}
	}
}

// ClusterInfo reads the cluster's nodes and parameters, as the first node that answers sees them.
func (c *Client) ClusterInfo(ctx context.Context) (*ClusterInfo, error) {
	ctx, cancel, op := begin(ctx, c.deadline)
	defer cancel()
	info, err := read(ctx, c.pool, op, "", func(ctx context.Context, n *node) (*ClusterInfo, *verdict) {
		answer := new(api.ClusterInfoResponse)
		if failed := n.ask(ctx, methodInfo, &api.ClusterInfoRequest{}, answer); failed != nil {
			return nil, failed
		}
		return clusterInfo(answer), nil
	})
	return info, orNil(err)
}

func clusterInfo(answer *api.ClusterInfoResponse) *ClusterInfo {
	info := &ClusterInfo{NodeID: answer.GetNodeId(), Seed: answer.GetSeed(), ReplicaCount: int(answer.GetReplicationLevel())}
	states := [...]string{"UNKNOWN", "LINKED", "UNREACHABLE", "REFUSED", "SELF"}
	for _, node := range answer.GetStorageNodes() {
		state := states[0]
		if number := int(node.GetState()); number >= 0 && number < len(states) {
			state = states[number]
		}
		info.Nodes = append(info.Nodes, NodeInfo{node.GetId(), node.GetAddress(), state, node.GetSlots(), node.GetDetail()})
	}
	return info
}

// Health reads the health of the first node that answers. With one address, that is the health of this node.
func (c *Client) Health(ctx context.Context) (*NodeHealth, error) {
	ctx, cancel, op := begin(ctx, c.deadline)
	defer cancel()
	health, err := read(ctx, c.pool, op, "", func(ctx context.Context, n *node) (*NodeHealth, *verdict) {
		answer, failed := n.health(ctx)
		if failed != nil {
			return nil, failed
		}
		states := map[api.Health]string{
			api.Health_ONLINE: "ONLINE", api.Health_STARTING: "STARTING", api.Health_DEGRADED: "DEGRADED",
			api.Health_DRAINING: "DRAINING", api.Health_REFUSED: "REFUSED",
		}
		state, ok := states[answer.GetStatus()]
		if !ok {
			state = "UNKNOWN"
		}
		return &NodeHealth{answer.GetNodeId(), state, answer.GetServes(), answer.GetDetail(), answer.GetVersion()}, nil
	})
	return health, orNil(err)
}

// first returns the first problem that there is.
func first(problems ...*Error) *Error {
	for _, problem := range problems {
		if problem != nil {
			return problem
		}
	}
	return nil
}

// orNil makes an error that is nil of one that has no problem.
func orNil(err *Error) error {
	if err == nil {
		return nil
	}
	return err
}
