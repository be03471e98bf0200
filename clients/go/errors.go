package quorate

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
)

// Kind sorts errors by what the caller does next.
type Kind int

const (
	// InvalidInput: the input is not accepted, and nothing was sent. Correct the input.
	InvalidInput Kind = iota + 1
	// NotApplied: the write certainly did not happen, and will not. It was tried until the deadline, and may be sent again.
	NotApplied
	// OutcomeUnknown: the write may have happened, or may still happen. Read the key to find out. Send the same write again
	// only if writing it twice does no harm.
	OutcomeUnknown
	// ConditionFailed: the condition does not hold, and the write never takes effect. The error has the present version.
	ConditionFailed
	// NotANumber: the value to add to is no number in decimal, or the sum is out of 64 bits. The addition never takes effect.
	NotANumber
	// NoSuchTable: there is no table of this name, or there is none any more. [Tables.Create] makes it.
	NoSuchTable
	// TableExists: there is a table of this name already, so that it was not created.
	TableExists
	// Unavailable: no node answered the read before the deadline. It may be asked again at any time.
	Unavailable
	// Refused: the node refuses the request, and would refuse it again. Nothing was written. Correct the request.
	Refused
)

var kindNames = [...]string{
	InvalidInput:    "INVALID_INPUT",
	NotApplied:      "NOT_APPLIED",
	OutcomeUnknown:  "OUTCOME_UNKNOWN",
	ConditionFailed: "CONDITION_FAILED",
	NotANumber:      "NOT_A_NUMBER",
	NoSuchTable:     "NO_SUCH_TABLE",
	TableExists:     "TABLE_EXISTS",
	Unavailable:     "UNAVAILABLE",
	Refused:         "REFUSED",
}

func (k Kind) String() string {
	if k < InvalidInput || int(k) >= len(kindNames) {
		return fmt.Sprintf("Kind(%d)", int(k))
	}
	return kindNames[k]
}

// These are what errors.Is compares with: an [Error] is one of them if it has its kind.
var (
	ErrInvalidInput    error = &Error{Kind: InvalidInput}
	ErrNotApplied      error = &Error{Kind: NotApplied}
	ErrOutcomeUnknown  error = &Error{Kind: OutcomeUnknown}
	ErrConditionFailed error = &Error{Kind: ConditionFailed}
	ErrNotANumber      error = &Error{Kind: NotANumber}
	ErrNoSuchTable     error = &Error{Kind: NoSuchTable}
	ErrTableExists     error = &Error{Kind: TableExists}
	ErrUnavailable     error = &Error{Kind: Unavailable}
	ErrRefused         error = &Error{Kind: Refused}
)

// Error is the failure of an operation. All operations fail with an *Error.
type Error struct {
	// Kind says what the caller does next.
	Kind Kind
	// Node is the failure at the node that was asked last; nil for InvalidInput, ConditionFailed and NotANumber.
	Node *NodeFailure
	// Version is the key's present version, with ConditionFailed and NotANumber.
	Version string
	// HasValue says whether the key has a value, with ConditionFailed.
	HasValue bool
	// TriedFor is how long the operation was tried, with NotApplied and Unavailable.
	TriedFor time.Duration

	problem string
	// cause is the error of the context, if that ended the operation.
	cause error
}

func (e *Error) Error() string {
	switch e.Kind {
	case NotApplied:
		return fmt.Sprintf("quorate: not written, certainly: %v (tried for %.1f s; safe to send again)", e.Node, e.TriedFor.Seconds())
	case OutcomeUnknown:
		if e.Node != nil && e.Node.Reason != "" {
			return fmt.Sprintf("quorate: may or may not be written: %v", e.Node)
		}
		return fmt.Sprintf("quorate: may or may not be written: %v (read the key to find out)", e.Node)
	case ConditionFailed:
		has := "no value"
		if e.HasValue {
			has = "a value"
		}
		return fmt.Sprintf("quorate: not written: the condition does not hold; the key has %s, version %s", has, e.Version)
	case NotANumber:
		return "quorate: not added: the value is no number in decimal, or the sum is out of 64 bits; its version is " + e.Version
	case Unavailable:
		return fmt.Sprintf("quorate: not answered: %v (tried for %.1f s; safe to ask again)", e.Node, e.TriedFor.Seconds())
	case Refused:
		return fmt.Sprintf("quorate: refused: %v", e.Node)
	case NoSuchTable, TableExists:
		return fmt.Sprintf("quorate: %v", e.Node)
	default:
		return "quorate: " + e.problem
	}
}

// Is reports whether target is the error of the same kind, such as [ErrNotApplied].
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Kind == e.Kind && other.Node == nil && other.problem == "" && other.Version == ""
}

// Unwrap returns the error of the context, if that ended the operation.
func (e *Error) Unwrap() error {
	return e.cause
}

// NodeFailure is the failure of a request at one node: the node's answer, or the reason why there was none.
type NodeFailure struct {
	// Address is the node's address, as it was given to the client.
	Address string
	// Message says what went wrong, for a person.
	Message string
	// Code is the gRPC status code.
	Code codes.Code
	// Reason is the node's reason, such as NO_QUORUM. It is empty if the failure comes from the connection.
	Reason string
	// Metadata is the node's account: slot, replicas, needed, and replica.ID for the state of each replica.
	Metadata map[string]string
}

func (f *NodeFailure) Error() string {
	if f == nil {
		return "no node was asked"
	}
	return f.Address + ": " + f.Message
}

func invalid(format string, arguments ...any) *Error {
	return &Error{Kind: InvalidInput, problem: fmt.Sprintf(format, arguments...)}
}
