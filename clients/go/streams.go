package quorate

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc/codes"

	"quorate/internal/api"
)

// silenceMax is how long a watch may be silent: nodes send something every 10 s.
const silenceMax = 25 * time.Second

// failing is how long a stream has failed for, and how long it waits before the next try.
type failing struct {
	pauses pauses
	since  time.Time
}

func newFailing() *failing { return &failing{newPauses(), time.Now()} }

// wait waits before the next try. It fails where the stream has failed for too long.
func (f *failing) wait(ctx context.Context, deadline time.Duration, last *NodeFailure) *Error {
	if f.pauses.wait(ctx, f.since.Add(deadline)) {
		return nil
	}
	return &Error{Kind: Unavailable, Node: last, TriedFor: time.Since(f.since), cause: ctx.Err()}
}

// ListOption changes a list.
type ListOption func(*listOptions)

type listOptions struct {
	startAfter string
	limit      *uint64
	values     bool
}

// StartAfter lists only keys above this one, which need not exist.
func StartAfter(key string) ListOption {
	return func(o *listOptions) { o.startAfter = key }
}

// Limit lists so many keys at most.
func Limit(keys uint64) ListOption {
	return func(o *listOptions) { o.limit = &keys }
}

// ListValues asks for the values too.
func ListValues() ListOption {
	return func(o *listOptions) { o.values = true }
}

// List lists the keys that have a value and begin with prefix, in the order of their bytes. The list goes on at another node where
// one fails. Each key is read linearizably, at some moment of the list: a list is not one moment of the cluster.
//
//	for user, err := range client.List(ctx, "user:", quorate.ListValues()) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(user.Key, user.Value)
//	}
//
// An error is the end; what was told before holds. It is [ErrUnavailable] where no node goes on with the list until the client's
// deadline has passed, which begins anew with each page.
func (c *Client) List(ctx context.Context, prefix string, opts ...ListOption) iter.Seq2[Listed, error] {
	return func(yield func(Listed, error) bool) {
		var options listOptions
		for _, option := range opts {
			option(&options)
		}
		request := &api.ListRequest{Table: c.table, Prefix: prefix, StartAfter: options.startAfter, Values: options.values}
		problem := first(c.tableProblem, checkPrefix("prefix", prefix), checkPrefix("key to start after", options.startAfter))
		if problem != nil {
			yield(Listed{}, problem)
			return
		}
		lister := lister{client: c, request: request, left: options.limit, failing: newFailing()}
		defer lister.drop()
		for {
			page, isLast, err := lister.next(ctx)
			if err != nil {
				yield(Listed{}, err)
				return
			}
			for _, listed := range page {
				if !yield(listed, nil) {
					return
				}
			}
			if isLast {
				return
			}
			// The time that the reader takes does not count.
			lister.failing = newFailing()
		}
	}
}

type lister struct {
	client  *Client
	request *api.ListRequest
	left    *uint64
	stream  *stream
	failing *failing
}

// next reads the next page, and says whether it is the last.
func (l *lister) next(ctx context.Context) ([]Listed, bool, *Error) {
	if l.left != nil && *l.left == 0 {
		return nil, true, nil
	}
	for {
		page, isLast, failed := l.page(ctx)
		if failed == nil {
			return page, isLast, nil
		}
		isOfNode := l.stream != nil
		if isOfNode && ctx.Err() == nil && failed.final == nil {
			l.client.pool.avoid(l.stream.node)
		}
		l.drop()
		if failed.final != nil {
			return nil, true, failed.final
		}
		if err := l.failing.wait(ctx, l.client.deadline, failed.failure); err != nil {
			return nil, true, err
		}
	}
}

func (l *lister) page(ctx context.Context) ([]Listed, bool, *verdict) {
	deadline := l.client.deadline
	if l.stream == nil {
		if l.left != nil {
			l.request.Limit = *l.left
		}
		stream, failed := l.client.open(ctx, methodList, l.request)
		if failed != nil {
			return nil, false, failed
		}
		l.stream = stream
	}
	page := new(api.ListResponse)
	// A list that was not cut off has ended with a page without `next`.
	if failed := l.stream.next(page, deadline); failed != nil {
		return nil, false, failed
	}
	l.failing = newFailing()
	all := make([]Listed, 0, len(page.GetEntries()))
	for _, entry := range page.GetEntries() {
		listed, err := listedOf(entry)
		if err != nil {
			return nil, false, tryNext(l.stream.node.failure(codes.Unknown, err.Error()))
		}
		all = append(all, listed)
	}
	if l.left != nil {
		left := *l.left - min(*l.left, uint64(len(all)))
		l.left = &left
	}
	isLast := page.Next == nil || (l.left != nil && *l.left == 0)
	if page.Next != nil {
		l.request.StartAfter = page.GetNext()
	}
	return all, isLast, nil
}

func (l *lister) drop() {
	if l.stream != nil {
		l.stream.cancel()
		l.stream = nil
	}
}

// open begins a stream at a node that lives.
func (c *Client) open(ctx context.Context, method string, request message) (*stream, *verdict) {
	limited, cancel, op := begin(ctx, c.deadline)
	node, failed := c.pool.liveNode(limited, op, "")
	cancel()
	if failed != nil {
		return nil, failed
	}
	stream, failed := node.openStream(ctx, method, request, c.deadline)
	if failed != nil && failed.final == nil && ctx.Err() == nil {
		c.pool.avoid(node)
	}
	return stream, failed
}

// WatchOption changes a watch.
type WatchOption func(*api.WatchRequest)

// Cursor goes on where an earlier watch of the same keys was: [Watching.Cursor].
func Cursor(cursor []byte) WatchOption {
	return func(r *api.WatchRequest) { r.Cursor = cursor }
}

// WatchValues asks for the values too.
func WatchValues() WatchOption {
	return func(r *api.WatchRequest) { r.Values = true }
}

// WithList tells first what is there: [Changed] for each key that has a value, and [Ready] after the last. A key that was told
// already may be told of its changes before that. With a cursor that reaches back the watch goes on, and what is there is not told
// again.
func WithList() WatchOption {
	return func(r *api.WatchRequest) { r.WithList = true }
}

// Watch tells the changes of all keys that begin with prefix. It goes on at another node where one fails, and misses nothing.
//
//	watching := client.Watch("user:", quorate.WithList(), quorate.WatchValues())
//	for event, err := range watching.Events(ctx) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(event.Kind, event.Key, event.Value)
//	}
//
// Of every write that is called after [Ready], the watch tells that value or a later one of its key. Changes of one key come in the
// order in which they happened. A change may be told twice, with the same version. After [Reset] changes may have been missed, and
// the watch begins anew.
func (c *Client) Watch(prefix string, opts ...WatchOption) *Watching {
	request := &api.WatchRequest{Table: c.table, Keys: &api.WatchRequest_Prefix{Prefix: prefix}}
	return c.watching(request, first(c.tableProblem, checkPrefix("prefix", prefix)), opts)
}

// WatchKey tells the changes of one key, as [Client.Watch].
func (c *Client) WatchKey(key string, opts ...WatchOption) *Watching {
	request := &api.WatchRequest{Table: c.table, Keys: &api.WatchRequest_Key{Key: key}}
	return c.watching(request, first(c.tableProblem, checkKey(key)), opts)
}

func (c *Client) watching(request *api.WatchRequest, problem *Error, opts []WatchOption) *Watching {
	for _, option := range opts {
		option(request)
	}
	return &Watching{client: c, request: request, problem: problem}
}

// Watching is a watch. One goroutine at a time reads it.
type Watching struct {
	client  *Client
	request *api.WatchRequest
	problem *Error
	stream  *stream
	failing *failing
	// isReady says whether the reader knows that changes are told: it is told once, and again after a reset.
	isReady bool
	// hasTold says whether something was told that a new beginning would contradict.
	hasTold bool
}

// Cursor is where a later watch of the same keys goes on, after the event that was told last. Empty: there is nothing to go on with.
func (w *Watching) Cursor() []byte { return w.request.GetCursor() }

// Events tells the events until the context ends or the loop is left. Called again, it goes on after the last event. An error is the
// end; it is [ErrUnavailable] where no node goes on with the watch until the client's deadline has passed, and where the context
// ends.
func (w *Watching) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if w.problem != nil {
			yield(Event{}, w.problem)
			return
		}
		defer w.drop()
		for {
			// The time that the reader takes does not count.
			w.failing = newFailing()
			event, err := w.next(ctx)
			if err != nil {
				yield(Event{}, err)
				return
			}
			if !yield(event, nil) {
				return
			}
		}
	}
}

func (w *Watching) next(ctx context.Context) (Event, *Error) {
	for {
		if w.stream == nil && len(w.request.GetCursor()) == 0 && w.hasTold {
			// Without a cursor a node begins anew. Keys that were told before may have changed in between.
			return w.tell(Event{Kind: Reset}), nil
		}
		event, failed := w.read(ctx)
		switch {
		case failed == nil && (event.Kind == 0 || (event.Kind == Ready && w.isReady)):
			// A watch that went on at another node has missed nothing, so that Ready is no news then.
		case failed == nil:
			return w.tell(event), nil
		default:
			if w.stream != nil && ctx.Err() == nil && failed.final == nil {
				w.client.pool.avoid(w.stream.node)
			}
			w.drop()
			if failed.final != nil {
				return Event{}, failed.final
			}
			if err := w.failing.wait(ctx, w.client.deadline, failed.failure); err != nil {
				return Event{}, err
			}
		}
	}
}

func (w *Watching) tell(event Event) Event {
	if event.Kind == Reset {
		w.isReady, w.hasTold = false, false
	} else {
		w.isReady = w.isReady || event.Kind == Ready
		w.hasTold = true
	}
	return event
}

func (w *Watching) read(ctx context.Context) (Event, *verdict) {
	if w.stream == nil {
		stream, failed := w.client.open(ctx, methodWatch, w.request)
		if failed != nil {
			return Event{}, failed
		}
		w.stream = stream
	}
	answer := new(api.WatchResponse)
	if failed := w.stream.next(answer, silenceMax); failed != nil {
		return Event{}, failed
	}
	w.failing = newFailing()
	event, err := eventOf(answer)
	if err != nil {
		return Event{}, tryNext(w.stream.node.failure(codes.Unknown, err.Error()))
	}
	w.request.Cursor = answer.GetCursor()
	return event, nil
}

func (w *Watching) drop() {
	if w.stream != nil {
		w.stream.cancel()
		w.stream = nil
	}
}
