// Package quorate is a client of Quorate, a leaderless key-value store in which every key is linearizable.
//
//	client, err := quorate.New([]string{"127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"})
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	if _, err := client.Set(ctx, "greeting", quorate.Text("hello")); err != nil {
//		return err
//	}
//
// # What a failure means
//
// Errors are sorted by what the caller does next. errors.Is tells which one it is:
//
//	_, err := client.Set(ctx, "lock", quorate.Text("me"), quorate.IfAbsent(), quorate.TTL(30*time.Second))
//	switch {
//	case errors.Is(err, quorate.ErrConditionFailed):
//		// Another one has it.
//	case errors.Is(err, quorate.ErrNotApplied):
//		// Certainly not written: it may be sent again.
//	case errors.Is(err, quorate.ErrOutcomeUnknown):
//		// Perhaps written: read the key.
//	}
//
// # What is sent again
//
// A write is sent again only if it certainly did not happen: it never left this process, or a node answered that it was not
// applied. A write that names a version of its key takes effect once at most, so it is sent again under the same request id
// until a node says what became of it. A read has no effect, so several nodes may be asked, and the first answer counts.
//
// # Time and cancellation
//
// An operation ends at its deadline at the latest, all tries together: that of the client or that of the context, whichever
// comes first. A context that is cancelled ends the operation at once. The error then still says whether a write may have
// happened, and errors.Is finds context.Canceled in it.
package quorate
