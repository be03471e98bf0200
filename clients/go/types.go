package quorate

import (
	"fmt"
	"time"
	"unicode/utf8"
)

// Value is what a key has: text or bytes. It is read in the form in which it was written.
type Value struct {
	data   []byte
	isText bool
}

// Text is a value of text.
func Text(text string) Value {
	return Value{data: []byte(text), isText: true}
}

// Binary is a value of any bytes. They are not copied: change them only once the operation is done.
func Binary(data []byte) Value {
	return Value{data: data}
}

// Bytes returns the value as bytes, without a copy.
func (v Value) Bytes() []byte { return v.data }

// String returns the value as a string, whichever form it has.
func (v Value) String() string { return string(v.data) }

// IsText reports whether it was written as text.
func (v Value) IsText() bool { return v.isText }

func (v Value) check() *Error {
	if len(v.data) > valueBytesMax {
		return invalid("the value has %d bytes: at most %d are accepted", len(v.data), valueBytesMax)
	}
	if v.isText && !utf8.Valid(v.data) {
		return invalid("the value is not valid UTF-8: give it as Binary")
	}
	return nil
}

// Stamp is the position of a write in the one order of all writes of a key. No part of it is a time of day.
type Stamp struct {
	Epoch uint64
	Clock uint64
	Node  string
}

func (s Stamp) String() string { return fmt.Sprintf("%d.%d@%s", s.Epoch, s.Clock, s.Node) }

// Versioned is the value of a key, and its version.
type Versioned struct {
	Value Value
	// Version is for conditions: no other state of the key has it.
	Version string
	// TTL is the rest of the time to live; 0 for a value that never expires.
	TTL time.Duration
	// Stamp is the position among all writes without a condition. A write with a condition has the stamp of the one that it
	// builds on, and nil if there is none.
	Stamp *Stamp
}

// KeyState is the state of a key, which may have a value or none.
type KeyState struct {
	// Found is the value; nil if the key has none.
	Found *Versioned
	// Version is that of a value and of an absence alike.
	Version string
	// Stamp is that of the latest write or deletion without a condition.
	Stamp *Stamp
}

// Acknowledged is a write that is done: a majority of the key's replicas has it on disk.
type Acknowledged struct {
	// Version is the one that the write made.
	Version string
	// Stamp is that of a write without a condition. A write with a condition has the stamp of the one that it builds on.
	Stamp *Stamp
}

// Added is an addition that is done.
type Added struct {
	// Value is the sum.
	Value int64
	// Version is the one that the addition made.
	Version string
}

// Listed is a key of a list. It has a value.
type Listed struct {
	Key string
	// Version is that of its value, for conditions.
	Version string
	// Value is nil unless the list was asked for values.
	Value *Value
	// TTL is the rest of the time to live; 0 for a value that never expires.
	TTL time.Duration
}

// EventKind says what an [Event] tells.
type EventKind int

const (
	// Ready: every write that is called from now on is told. With [WithList] all that is there was told too, and nothing is
	// missed. Without, a write that was called before and is acknowledged later may not be told.
	Ready EventKind = iota + 1
	// Changed: a key has a new value.
	Changed
	// Deleted: a key has no value any more.
	Deleted
	// Reset: changes may have been missed. Forget what was told, until Ready comes again. With [WithList], what is there is
	// told again before that.
	Reset
)

func (k EventKind) String() string {
	switch k {
	case Ready:
		return "Ready"
	case Changed:
		return "Changed"
	case Deleted:
		return "Deleted"
	case Reset:
		return "Reset"
	default:
		return fmt.Sprintf("EventKind(%d)", int(k))
	}
}

// Event is what a watch tells.
type Event struct {
	Kind EventKind
	// Key is the key, with Changed and Deleted.
	Key string
	// Version is that of the value, or of the absence.
	Version string
	// Value is nil unless the watch was asked for values.
	Value *Value
	// TTL is the time to live; 0 for a value that never expires.
	TTL time.Duration
}

// TableInfo is a table.
type TableInfo struct {
	Name string
	// ID tells it from earlier and later tables of its name: no two tables ever have one id. 0 for default.
	ID uint32
	// IsDropping says that it is being dropped: its keys can neither be read nor written.
	IsDropping bool
	// TableSettings are those that it was created with.
	TableSettings
}

// TableSettings are the settings of all keys of a table. The zero value sets nothing.
type TableSettings struct {
	// DefaultTTL is the time to live of values that are written without one; 0: they never expire.
	DefaultTTL time.Duration
	// ValueBytesMax is the greatest value in bytes; 0: all are accepted that any table takes.
	ValueBytesMax uint64
	// QuotaBytes is about how many bytes all keys and values may have together; 0: no bound.
	QuotaBytes uint64
}

// TableCreated is a table that is there after it was to be created.
type TableCreated struct {
	Table TableInfo
	// IsNew says whether this call created it. It is there already only with IfMissing.
	IsNew bool
}

// ClusterInfo is the cluster, as the node that answers sees it.
type ClusterInfo struct {
	// NodeID is the id of the node that answers.
	NodeID string
	// Seed is that of the placement hashes.
	Seed         uint32
	ReplicaCount int
	Nodes        []NodeInfo
}

// NodeInfo is one node of the cluster.
type NodeInfo struct {
	ID      string
	Address string
	// State is LINKED, UNREACHABLE, REFUSED, or SELF for the node that answers.
	State string
	// Slots is the number of slots that it holds, of 65,536.
	Slots uint32
	// Detail says why it is not linked; empty if it is.
	Detail string
}

// NodeHealth is the health of a node.
type NodeHealth struct {
	NodeID string
	// Status is ONLINE, STARTING, DEGRADED, DRAINING or REFUSED.
	Status string
	// Serves says whether it takes requests and its disk takes writes.
	Serves bool
	// Detail is the reason of the status, and what to do; empty if the node is ONLINE.
	Detail string
	// Version is that of the program.
	Version string
}
