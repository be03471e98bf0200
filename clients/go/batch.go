package quorate

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"quorate/internal/api"
)

// checked makes an answer that makes no sense a failure of its node.
func checked[T any](n *node) func(T, error) (T, *verdict) {
	return func(answer T, err error) (T, *verdict) {
		if err != nil {
			return answer, tryNext(n.failure(codes.Unknown, err.Error()))
		}
		return answer, nil
	}
}

func batchFound(n *node, keys []string, answer *api.BatchGetResponse) ([]GetResult, error) {
	if len(answer.GetResults()) != len(keys) {
		return nil, fmt.Errorf("bad answer: %d results for %d keys", len(answer.GetResults()), len(keys))
	}
	results := make([]GetResult, len(keys))
	for i, result := range answer.GetResults() {
		if said := result.GetError(); said != nil {
			results[i].Failure = n.failure(codes.Code(said.GetCode()), said.GetMessage())
			results[i].Failure.Reason = said.GetReason()
			continue
		}
		state, err := keyState(keys[i], result)
		if err != nil {
			return nil, err
		}
		results[i].Found = state.Found
	}
	return results, nil
}

// Write is one write of a batch: [Client.ToSet] and [Client.ToDelete] make it.
type Write struct {
	entry       *api.BatchWriteEntry
	table, key  string
	mayBeResent bool
	problem     *Error
}

// ToSet makes a write of a batch. It goes to the table of the client that makes it.
func (c *Client) ToSet(key string, value Value, opts ...WriteOption) Write {
	request, mayBeResent, problem := c.setRequest(key, value, opts)
	entry := &api.BatchWriteEntry{Write: &api.BatchWriteEntry_Set{Set: request}}
	return Write{entry, c.table, key, mayBeResent, problem}
}

// ToDelete makes a deletion of a batch. It goes to the table of the client that makes it.
func (c *Client) ToDelete(key string, opts ...WriteOption) Write {
	request, mayBeResent, problem := c.deleteRequest(key, opts)
	entry := &api.BatchWriteEntry{Write: &api.BatchWriteEntry_Delete{Delete: request}}
	return Write{entry, c.table, key, mayBeResent, problem}
}

// WriteResult is what became of one write of a batch.
type WriteResult struct {
	// Acknowledged is the write that is done, if Err is nil.
	Acknowledged
	// Err is as that of [Client.Set].
	Err error
}

// BatchWrite writes and deletes 1 to 1,000 keys in one call: each on its own, in no order, with an outcome of its own. The results
// have the order of the writes. The values of one batch have 60 MiB together at most.
//
// A write that certainly did not happen is sent again until the deadline, as is one that names a version. BatchWrite fails as
// [Client.Set] if no key was written, and with [ErrInvalidInput] where two writes are for one key.
func (c *Client) BatchWrite(ctx context.Context, writes ...Write) ([]WriteResult, error) {
	type place struct{ table, key string }
	places := make(map[place]bool, len(writes))
	for _, write := range writes {
		if write.problem != nil {
			return nil, write.problem
		}
		if write.entry == nil {
			return nil, invalid("a write of the batch is empty: ToSet and ToDelete make one")
		}
	}
	if len(writes) == 0 || len(writes) > batchKeysMax {
		return nil, invalid("the batch has %d writes: 1 to %d are accepted", len(writes), batchKeysMax)
	}
	for _, write := range writes {
		at := place{write.table, write.key}
		if places[at] {
			return nil, invalid("two writes of the batch are for key %q: write it once, or in two batches", write.key)
		}
		places[at] = true
	}
	ctx, cancel, op := begin(ctx, c.deadline)
	defer cancel()
	outcomes := make([]Acknowledged, len(writes))
	failures := make([]*Error, len(writes))
	left := make([]int, len(writes))
	for i := range left {
		left[i] = i
	}
	pauses := newPauses()
	for {
		request := &api.BatchWriteRequest{}
		for _, index := range left {
			request.Entries = append(request.Entries, writes[index].entry)
		}
		answer := new(api.BatchWriteResponse)
		node, err := c.pool.write(ctx, op, "", methodBatchWrite, request, answer)
		if err == nil && len(answer.GetResults()) != len(left) {
			problem := fmt.Sprintf("bad answer: %d results for %d writes", len(answer.GetResults()), len(left))
			err = &Error{Kind: OutcomeUnknown, Node: node.failure(codes.Unknown, problem)}
		}
		if err != nil {
			if len(left) == len(writes) && err.Kind != OutcomeUnknown {
				return nil, err
			}
			// Some entries of an earlier call may be written.
			for _, index := range left {
				failures[index] = err
			}
			break
		}
		var notApplied []int
		for i, result := range answer.GetResults() {
			index := left[i]
			outcome, failed := batchOutcome(node, result)
			switch {
			case failed == nil:
				outcomes[index], failures[index] = outcome, nil
			case failed.final != nil:
				failures[index] = failed.final
			default:
				failures[index] = &Error{Kind: NotApplied, Node: failed.failure, TriedFor: time.Since(op.began)}
				notApplied = append(notApplied, index)
			}
		}
		if len(notApplied) == 0 || !pauses.wait(ctx, op.deadline) {
			break
		}
		left = notApplied
	}
	results := make([]WriteResult, len(writes))
	for i, write := range writes {
		failed := failures[i]
		if failed != nil && failed.Kind == OutcomeUnknown && write.mayBeResent && !op.isOver() {
			outcomes[i], failed = c.findOut(ctx, op, write)
		}
		results[i] = WriteResult{outcomes[i], orNil(failed)}
	}
	return results, nil
}

// findOut sends an entry again whose outcome is unknown, until it is known. It takes effect once at most.
func (c *Client) findOut(ctx context.Context, op operation, write Write) (done Acknowledged, err *Error) {
	if request := write.entry.GetSet(); request != nil {
		done, err = c.set(ctx, op, request, true, true)
	} else {
		done, err = c.delete(ctx, op, write.entry.GetDelete(), true, true)
	}
	if err != nil && (err.Kind == NotApplied || err.Kind == Refused) {
		// The batch may have written it, whatever became of these tries.
		err = &Error{Kind: OutcomeUnknown, Node: err.Node, cause: err.cause}
	}
	return done, err
}

// batchOutcome returns the outcome of an entry. Its failure is not final if it certainly did not happen.
func batchOutcome(n *node, result *api.BatchWriteResult) (Acknowledged, *verdict) {
	said := result.GetError()
	if said == nil {
		done, err := acknowledged(n, result)
		if err != nil {
			return done, &verdict{err.Node, err}
		}
		return done, nil
	}
	failure := n.failure(codes.Code(said.GetCode()), said.GetMessage())
	if reasons[said.GetReason()] {
		failure.Reason = said.GetReason()
	}
	if said.GetVersion() != "" {
		failure.Metadata = map[string]string{"version": said.GetVersion(), "has_value": fmt.Sprint(said.GetHasValue())}
	}
	return Acknowledged{}, judgeWrite(failure)
}
