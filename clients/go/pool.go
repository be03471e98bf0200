package quorate

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"quorate/internal/api"
)

// A read goes to one node after the other. A node that fails, or has not answered after the hedge delay, is avoided, and the
// next one is asked too. The first answer counts. A write is sent to one node at a time, and to the next only while it
// certainly did not happen. A write that takes effect once at most, however often it is sent, moves on as a read does.
//
// A paused node accepts a request as readily as a live one. Therefore a write, a list and a watch go without a question only to
// a node that answered during the last second. Any other node is first asked for its health.
//
// A node that does not know the caller is passed over: it may not have heard of a new token yet. Where all nodes say so, the
// operation ends at once.

const (
	// probeInterval is how often an avoided node is asked for its health.
	probeInterval = time.Second
	// The hedge delay is this part of the operation's deadline,
	hedgeDelayPart = 10
	// but at least this: a loaded node may need as long for its disk,
	hedgeDelayMin = 5 * time.Millisecond
	// and at most this.
	hedgeDelayMax = time.Second
	// Before a write, a node's health is waited for this many hedge delays.
	healthHedgeDelays = 3

	deadlineDefault = 5 * time.Second
	deadlineMin     = time.Millisecond
	deadlineMax     = time.Minute
)

// operation is the times of one operation, all tries together.
type operation struct {
	began      time.Time
	deadline   time.Time
	hedgeDelay time.Duration
}

// begin begins an operation. The context that it returns ends at the deadline.
func begin(ctx context.Context, timeMax time.Duration) (context.Context, context.CancelFunc, operation) {
	began := time.Now()
	if deadline, ok := ctx.Deadline(); ok {
		timeMax = min(timeMax, deadline.Sub(began))
	}
	op := operation{began: began, deadline: began.Add(timeMax), hedgeDelay: min(max(timeMax/hedgeDelayPart, hedgeDelayMin), hedgeDelayMax)}
	ctx, cancel := context.WithDeadline(ctx, op.deadline)
	return ctx, cancel, op
}

func (op operation) isOver() bool { return !time.Now().Before(op.deadline) }

// jittered returns a random time between half of duration and all of it.
func jittered(duration time.Duration) time.Duration {
	return duration/2 + time.Duration(rand.Int64N(int64(duration)/2+1))
}

// pauses are the waits of one operation, with jitter: clients that failed together must not come back together.
type pauses struct {
	next, longest time.Duration
}

func newPauses() pauses { return pauses{10 * time.Millisecond, 500 * time.Millisecond} }

// betweenContenders are the waits between tries that failed because another client succeeded.
func betweenContenders() pauses { return pauses{time.Millisecond, 64 * time.Millisecond} }

// wait waits before the next try. It returns false, at once, where the wait would end after the deadline, and where the context
// ends.
func (p *pauses) wait(ctx context.Context, deadline time.Time) bool {
	wait := jittered(p.next)
	p.next = min(2*p.next, p.longest)
	if !time.Now().Add(wait).Before(deadline) {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// pool is the nodes of a client. Copies of the client share it.
type pool struct {
	nodes []*node
	// turn counts operations, so that nodes take turns. It begins at a random number, so that many clients that live shortly
	// spread over the nodes too.
	turn   atomic.Uint64
	router *router

	// closing ends with the client, and with it its probes.
	closing context.Context
	close   context.CancelFunc
	tasks   sync.WaitGroup
	mu      sync.Mutex
}

func newPool(nodes []*node) *pool {
	p := &pool{nodes: nodes}
	p.turn.Store(uint64(rand.Uint32()))
	p.closing, p.close = context.WithCancel(context.Background())
	return p
}

// spawn runs work until it ends or the client is closed.
func (p *pool) spawn(work func(context.Context)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing.Err() == nil {
		p.tasks.Go(func() { work(p.closing) })
	}
}

// read reads until a node answers or the deadline has passed. try asks one node.
func read[T any](ctx context.Context, p *pool, op operation, key string, try func(context.Context, *node) (T, *verdict)) (T, *Error) {
	var none T
	pauses := newPauses()
	for {
		_, answer, failed := race(ctx, p, p.nodesFor(key), op, try)
		if failed == nil {
			return answer, nil
		}
		if failed.final != nil {
			return none, failed.final
		}
		if !pauses.wait(ctx, op.deadline) {
			return none, &Error{Kind: Unavailable, Node: failed.failure, TriedFor: time.Since(op.began), cause: ctx.Err()}
		}
	}
}

// write writes until a node answers, the outcome is unknown, or the deadline has passed. It returns the node that answered.
func (p *pool) write(ctx context.Context, op operation, key, method string, request, answer proto.Message) (*node, *Error) {
	pauses := newPauses()
	for {
		var last *NodeFailure
		for range p.nodes {
			node, failed := p.liveNode(ctx, op, key)
			if failed == nil {
				failed = p.send(ctx, op, node, method, request, answer)
				if failed == nil {
					return node, nil
				}
			} else if failed.final == nil {
				last = failed.failure
				break
			}
			if failed.final != nil {
				return nil, withCause(ctx, failed.final)
			}
			last = failed.failure
			if op.isOver() || ctx.Err() != nil {
				break
			}
		}
		if !pauses.wait(ctx, op.deadline) {
			return nil, &Error{Kind: NotApplied, Node: last, TriedFor: time.Since(op.began), cause: ctx.Err()}
		}
	}
}

func withCause(ctx context.Context, err *Error) *Error {
	if err.Kind == OutcomeUnknown && err.cause == nil {
		err.cause = ctx.Err()
	}
	return err
}

// try is how one try of a write ended.
type try struct {
	node     *node
	answer   proto.Message
	isResend bool
	failed   *verdict
}

// writeUntilKnown writes until a node says what became of it, or the deadline has passed. It is only for a write that takes
// effect once at most, however often it is sent. request makes it, and is told whether an earlier try may have arrived.
func (p *pool) writeUntilKnown(ctx context.Context, op operation, key, method string, request func(isResend bool) proto.Message, answer proto.Message) (*node, *Error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pauses := newPauses()
	// Each try can leave its end here, even when nobody wants it any more.
	ended := make(chan try, len(p.nodes))
	// The tries under way, and those that may have taken effect: these, and those whose end says nothing.
	running, open, failed := 0, 0, 0
	var last, unknown *NodeFailure
	var declined *Error
	isEnding := false
	hedge := time.NewTimer(op.hedgeDelay)
	defer hedge.Stop()
	for {
		// A further try goes out when the one before has failed or the hedge delay has passed.
		if running < len(p.nodes) && !isEnding {
			node, none := p.liveNode(ctx, op, key)
			switch {
			case none == nil:
				isResend := open > 0
				open++
				running++
				message, answer := request(isResend), answer.ProtoReflect().New().Interface()
				go func() {
					failed := p.send(ctx, op, node, method, message, answer)
					ended <- try{node, answer, isResend, failed}
				}()
			case none.final != nil && open == 0:
				return nil, none.final
			default:
				failed = len(p.nodes)
				last = none.failure
			}
		}
		if running > 0 {
			hedge.Reset(op.hedgeDelay)
			select {
			case end := <-ended:
				running--
				if end.failed == nil {
					proto.Merge(answer, end.answer)
					return end.node, nil
				}
				switch end.failed.kind() {
				case 0:
					open--
					failed++
					last = end.failed.failure
				case OutcomeUnknown:
					// A node that looked for an earlier try and cannot know more: nor can another one.
					said := end.failed.failure
					if end.isResend && said.Reason == "OUTCOME_UNKNOWN" && said.Code == codes.DeadlineExceeded {
						return nil, end.failed.final
					}
					failed++
					unknown = said
				case ConditionFailed, NotANumber:
					// The answer to a resend speaks of all tries, and that to a first try of this one alone.
					if end.isResend || open == 1 {
						return nil, end.failed.final
					}
					open--
					failed++
					declined = end.failed.final
				case Refused:
					if open == 1 {
						return nil, end.failed.final
					}
					open--
					failed++
					last = end.failed.failure
				default:
					return nil, end.failed.final
				}
			case <-hedge.C:
				continue
			}
		}
		isEnding = isEnding || op.isOver() || ctx.Err() != nil
		if !isEnding && failed >= len(p.nodes) {
			failed = 0
			isEnding = !pauses.wait(ctx, op.deadline)
		}
		if isEnding && running == 0 {
			switch {
			case open > 0:
				if unknown == nil {
					unknown = last
				}
				return nil, &Error{Kind: OutcomeUnknown, Node: unknown, cause: ctx.Err()}
			case declined != nil:
				return nil, declined
			default:
				return nil, &Error{Kind: NotApplied, Node: last, TriedFor: time.Since(op.began), cause: ctx.Err()}
			}
		}
	}
}

// send sends a write to a node, once. Another node may be tried only if it certainly did not happen.
func (p *pool) send(ctx context.Context, op operation, n *node, method string, request, answer proto.Message) *verdict {
	// This write can then only wait for its answer. Later writes need not wait behind it.
	timer := time.AfterFunc(op.hedgeDelay, func() { p.avoid(n) })
	failed := n.sendOnce(ctx, method, request, answer)
	timer.Stop()
	switch failed.kindOrNone() {
	case none, ConditionFailed, NotANumber:
		// The node answered. That it refuses is the write's own fault.
		n.recordAnswer()
	case Refused:
	default:
		// A try that was given up says nothing of its node.
		if ctx.Err() == nil {
			p.avoid(n)
		}
	}
	return failed
}

const none Kind = -1

func (v *verdict) kindOrNone() Kind {
	if v == nil {
		return none
	}
	return v.kind()
}

// liveNode returns the node for a write or a stream: the next in turn if it answered recently, else the first in good health.
func (p *pool) liveNode(ctx context.Context, op operation, key string) (*node, *verdict) {
	nodes := p.nodesFor(key)
	if nodes[0].answeredRecently() {
		return nodes[0], nil
	}
	// A single node has no substitute, so its health may take until the deadline.
	if len(nodes) > 1 {
		limited, cancel := context.WithTimeout(ctx, healthHedgeDelays*op.hedgeDelay)
		defer cancel()
		ctx = limited
	}
	var mu sync.Mutex
	var degraded *node
	found, _, failed := race(ctx, p, nodes, op, func(ctx context.Context, n *node) (struct{}, *verdict) {
		health, failed := n.health(ctx)
		if failed != nil {
			return struct{}{}, failed
		}
		problem := "the node does not serve"
		switch health.GetStatus() {
		case api.Health_ONLINE, api.Health_DEFAULT:
			return struct{}{}, nil
		case api.Health_DEGRADED:
			problem = "the node is degraded"
			mu.Lock()
			if degraded == nil {
				degraded = n
			}
			mu.Unlock()
		case api.Health_STARTING:
			problem = "the node is starting, or waits for the other nodes"
		case api.Health_DRAINING:
			problem = "the node is ending"
		case api.Health_REFUSED:
			problem = "the node is refused by its peers"
		}
		return struct{}{}, tryNext(n.failure(codes.Unknown, strings.TrimSuffix(problem+": "+health.GetDetail(), ": ")))
	})
	mu.Lock()
	defer mu.Unlock()
	if failed != nil && degraded != nil {
		// It is better than none: with a full disk of its own it still coordinates writes to others.
		return degraded, nil
	}
	return found, failed
}

// race asks nodes in their order until one answers or all have failed. The next node is asked when the one before fails or the
// hedge delay has passed. It is only for requests without an effect: several nodes may execute them.
func race[T any](ctx context.Context, p *pool, nodes []*node, op operation, try func(context.Context, *node) (T, *verdict)) (*node, T, *verdict) {
	type end struct {
		node   *node
		answer T
		failed *verdict
	}
	var nothing T
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan end, len(nodes))
	var hedge <-chan time.Time
	var asked *node
	var last *NodeFailure
	nobodyKnows := true
	running, next := 0, 0
	for {
		hedge = nil
		if next < len(nodes) {
			asked = nodes[next]
			next++
			running++
			go func(n *node) {
				answer, failed := try(ctx, n)
				ended <- end{n, answer, failed}
			}(asked)
			timer := time.NewTimer(op.hedgeDelay)
			defer timer.Stop()
			hedge = timer.C
		} else if running == 0 {
			if nobodyKnows && ctx.Err() == nil {
				return nil, nothing, &verdict{last, &Error{Kind: Refused, Node: last}}
			}
			return nil, nothing, tryNext(last)
		}
		select {
		case end := <-ended:
			running--
			switch {
			case end.failed == nil:
				end.node.recordAnswer()
				return end.node, end.answer, nil
			case end.failed.final != nil:
				return nil, nothing, end.failed
			case ctx.Err() == nil:
				p.avoid(end.node)
			}
			isUnknown := isUnknownCaller(end.failed.failure)
			nobodyKnows = nobodyKnows && isUnknown
			// What the caller can mend comes before the failure of another node.
			if isUnknown || !isUnknownCaller(last) {
				last = end.failed.failure
			}
		case <-hedge:
			p.avoid(asked)
		}
		if ctx.Err() != nil && last != nil {
			// Others would be asked in vain.
			next = len(nodes)
		}
	}
}

// nodesFor returns all nodes: in turn, avoided ones last. With routing, the replicas of the key come first.
func (p *pool) nodesFor(key string) []*node {
	turn := int(p.turn.Add(1) % uint64(len(p.nodes)))
	nodes := slices.Concat(p.nodes[turn:], p.nodes[:turn])
	rank := func(n *node) int {
		switch {
		case n.avoided():
			return 2
		case p.router != nil && !p.router.holds(n, key):
			return 1
		default:
			return 0
		}
	}
	ranks := make(map[*node]int, len(nodes))
	for _, n := range nodes {
		ranks[n] = rank(n)
	}
	slices.SortStableFunc(nodes, func(a, b *node) int { return ranks[a] - ranks[b] })
	return nodes
}

// avoid makes other operations prefer other nodes, until the node says that it serves.
func (p *pool) avoid(n *node) {
	if !n.avoid() {
		return
	}
	p.spawn(func(ctx context.Context) {
		for {
			select {
			case <-time.After(jittered(probeInterval)):
			case <-ctx.Done():
				return
			}
			if !n.avoided() {
				return
			}
			probe, cancel := context.WithTimeout(ctx, probeInterval)
			health, failed := n.health(probe)
			cancel()
			if failed == nil && health.GetServes() {
				n.recordAnswer()
				return
			}
		}
	})
}
