package quorate

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"quorate/internal/api"
)

const (
	keyBytesMax       = 4096
	valueBytesMax     = 60 << 20
	messageBytesMax   = 64 << 20
	tableNameBytesMax = 128
	batchKeysMax      = 1000
	ttlMax            = 3650 * 24 * time.Hour
	defaultTable      = "default"
)

// Input is checked before anything is sent.

func checkKey(key string) *Error {
	switch {
	case key == "":
		return invalid("the key is empty: give it 1 to %d bytes of UTF-8", keyBytesMax)
	case len(key) > keyBytesMax:
		return invalid("the key has %d bytes: at most %d are accepted", len(key), keyBytesMax)
	case !utf8.ValidString(key):
		return invalid("the key is not valid UTF-8")
	}
	return nil
}

func checkPrefix(what, text string) *Error {
	switch {
	case len(text) > keyBytesMax:
		return invalid("the %s has %d bytes: at most %d are accepted", what, len(text), keyBytesMax)
	case !utf8.ValidString(text):
		return invalid("the %s is not valid UTF-8", what)
	}
	return nil
}

func checkVersion(version string) *Error {
	switch {
	case version == "":
		return invalid("the version is empty: give one that an answer about the key had")
	case !utf8.ValidString(version):
		return invalid("the version is not valid UTF-8")
	}
	return nil
}

// tableName returns the name of a table in requests: empty for the default table.
func tableName(name string) (string, *Error) {
	switch {
	case name == "":
		return "", invalid("the name of the table is empty: give it 1 to %d bytes of UTF-8", tableNameBytesMax)
	case len(name) > tableNameBytesMax:
		return "", invalid("the name of the table has %d bytes: at most %d are accepted", len(name), tableNameBytesMax)
	case !utf8.ValidString(name):
		return "", invalid("the name of the table is not valid UTF-8")
	case name == defaultTable:
		return "", nil
	}
	for _, character := range name {
		if unicode.IsSpace(character) || unicode.IsControl(character) || character == '/' {
			return "", invalid("the name of the table holds %q: spaces, control characters and slashes are not accepted", character)
		}
	}
	return name, nil
}

func createdTableName(name string) (string, *Error) {
	name, problem := tableName(name)
	if problem == nil && name == "" {
		problem = invalid("table %s always exists: it cannot be created or dropped, and has no settings", defaultTable)
	}
	return name, problem
}

// duration returns a time to live as the wire has it; nil for none.
func duration(ttl *time.Duration) (*durationpb.Duration, *Error) {
	if ttl == nil {
		return nil, nil
	}
	if *ttl <= 0 || *ttl > ttlMax {
		return nil, invalid("a time to live of %v is not accepted: 1 ms to 3,650 days are; without one a value never expires", *ttl)
	}
	return durationpb.New(*ttl), nil
}

func entryOf(key string, value Value) *api.Entry {
	if value.isText {
		return &api.Entry{Key: key, Content: &api.Entry_Value{Value: string(value.data)}}
	}
	return &api.Entry{Key: key, Content: &api.Entry_Binary{Binary: value.data}}
}

func requestID() []byte {
	id := make([]byte, 16)
	// It never fails: the program ends where the system has no random bytes.
	_, _ = rand.Read(id)
	return id
}

// Answers came over the network, so each of them is checked before it is believed.

func ttlOf(ttl *durationpb.Duration) (time.Duration, error) {
	if ttl == nil {
		return 0, nil
	}
	if ttl.AsDuration() < 0 {
		return 0, fmt.Errorf("bad answer: a negative time to live")
	}
	// What is left of less than a nanosecond is not the 0 of a value that never expires.
	return max(ttl.AsDuration(), 1), nil
}

func stampOf(clock *api.ClockValue) (*Stamp, error) {
	if clock == nil {
		return nil, nil
	}
	if clock.GetNode() == "" {
		return nil, fmt.Errorf("bad answer: a stamp without a node")
	}
	return &Stamp{Epoch: clock.GetEpoch(), Clock: clock.GetClock(), Node: clock.GetNode()}, nil
}

func valueOf(key string, entry *api.Entry) (Value, error) {
	if entry.GetKey() != key {
		return Value{}, fmt.Errorf("bad answer: asked for key %q, got %q", key, entry.GetKey())
	}
	if binary, ok := entry.GetContent().(*api.Entry_Binary); ok {
		return Binary(binary.Binary), nil
	}
	return Text(entry.GetValue()), nil
}

// found is a GetResponse, or a BatchGetResult without an error.
type found interface {
	GetEntry() *api.Entry
	GetClock() *api.ClockValue
	GetVersion() string
	GetTtl() *durationpb.Duration
}

func keyState(key string, answer found) (*KeyState, error) {
	if answer.GetVersion() == "" {
		return nil, fmt.Errorf("bad answer: no version")
	}
	stamp, err := stampOf(answer.GetClock())
	if err != nil {
		return nil, err
	}
	state := &KeyState{Version: answer.GetVersion(), Stamp: stamp}
	if answer.GetEntry() == nil {
		return state, nil
	}
	value, err := valueOf(key, answer.GetEntry())
	if err != nil {
		return nil, err
	}
	ttl, err := ttlOf(answer.GetTtl())
	if err != nil {
		return nil, err
	}
	state.Found = &Versioned{Value: value, Version: state.Version, TTL: ttl, Stamp: stamp}
	return state, nil
}

// written is a SetResponse, a DeleteResponse, or a BatchWriteResult without an error.
type written interface {
	GetClock() *api.ClockValue
	GetVersion() string
}

// acknowledged returns a write that is done. An answer that cannot be read has an unknown outcome.
func acknowledged(node *node, answer written) (Acknowledged, *Error) {
	stamp, err := stampOf(answer.GetClock())
	if err == nil && answer.GetVersion() == "" {
		err = fmt.Errorf("bad answer: OK without a version")
	}
	if err != nil {
		return Acknowledged{}, &Error{Kind: OutcomeUnknown, Node: node.failure(codes.Unknown, err.Error())}
	}
	return Acknowledged{Version: answer.GetVersion(), Stamp: stamp}, nil
}

func listedOf(entry *api.ListedEntry) (Listed, error) {
	listed := Listed{Key: entry.GetKey(), Version: entry.GetVersion()}
	if entry.GetEntry() != nil {
		value, err := valueOf(listed.Key, entry.GetEntry())
		if err != nil {
			return Listed{}, err
		}
		listed.Value = &value
	}
	ttl, err := ttlOf(entry.GetTtl())
	listed.TTL = ttl
	return listed, err
}

// eventOf returns the event in a node's message; its kind is 0 if it only says that the node is there.
func eventOf(answer *api.WatchResponse) (Event, error) {
	switch told := answer.GetEvent().(type) {
	case *api.WatchResponse_Ready:
		return Event{Kind: Ready}, nil
	case *api.WatchResponse_Reset_:
		return Event{Kind: Reset}, nil
	case *api.WatchResponse_Deleted:
		return Event{Kind: Deleted, Key: told.Deleted.GetKey(), Version: told.Deleted.GetVersion()}, nil
	case *api.WatchResponse_Put:
		put := told.Put
		event := Event{Kind: Changed, Key: put.GetKey(), Version: put.GetVersion()}
		if put.GetEntry() != nil {
			value, err := valueOf(event.Key, put.GetEntry())
			if err != nil {
				return Event{}, err
			}
			event.Value = &value
		}
		ttl, err := ttlOf(put.GetTtl())
		event.TTL = ttl
		return event, err
	default:
		return Event{}, nil
	}
}

func tableOf(table *api.Table) (TableInfo, error) {
	if table.GetName() == "" {
		return TableInfo{}, fmt.Errorf("bad answer: no table")
	}
	settings := table.GetSettings()
	ttl, err := ttlOf(settings.GetDefaultTtl())
	return TableInfo{
		Name:       table.GetName(),
		ID:         table.GetId(),
		IsDropping: table.GetState() == api.TableState_TABLE_DROPPING,
		TableSettings: TableSettings{
			DefaultTTL:    ttl,
			ValueBytesMax: settings.GetValueBytesMax(),
			QuotaBytes:    settings.GetQuotaBytes(),
		},
	}, err
}

// Failures

var reasons = setOf("NOT_APPLIED", "OUTCOME_UNKNOWN", "NO_QUORUM", "NOT_READY", "STORE_FAILED", "DAMAGED", "INVALID_ARGUMENT",
	"NOT_REPLICA", "STAMP_NOT_GREATER", "OPERATOR_WRITES_OFF", "CLOCK_RAISE_TOO_FAR", "CONDITION_FAILED", "NOT_A_NUMBER",
	"NO_SUCH_TABLE", "TABLE_EXISTS", "UNAUTHENTICATED", "PERMISSION_DENIED")

// Each reason is named, so that a reason added later is not taken for a refusal by accident.
var refusals = setOf("INVALID_ARGUMENT", "NOT_REPLICA", "STAMP_NOT_GREATER", "OPERATOR_WRITES_OFF", "CLOCK_RAISE_TOO_FAR",
	"PERMISSION_DENIED")

// Without Quorate's own reason, only codes count that neither a broken connection nor a proxy produces.
var refusalCodes = map[codes.Code]bool{
	codes.InvalidArgument:    true,
	codes.FailedPrecondition: true,
	codes.Unimplemented:      true,
	codes.PermissionDenied:   true,
	codes.Unauthenticated:    true,
}

func setOf(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

func failureOf(address string, err error) *NodeFailure {
	said, _ := status.FromError(err)
	failure := &NodeFailure{Address: address, Message: said.Message(), Code: said.Code()}
	if failure.Message == "" {
		failure.Message = said.Code().String()
	}
	if said.Code() == codes.DeadlineExceeded && strings.Contains(failure.Message, "waiting for connections to become ready") {
		failure.Message += ": it may be down, or take TLS alone (WithTLSFiles)"
	}
	for _, detail := range said.Proto().GetDetails() {
		var info api.RpcErrorInfo
		if !strings.HasSuffix(detail.GetTypeUrl(), "/google.rpc.ErrorInfo") || proto.Unmarshal(detail.GetValue(), &info) != nil {
			continue
		}
		if info.GetDomain() == "quorate" && reasons[info.GetReason()] {
			failure.Reason, failure.Metadata = info.GetReason(), info.GetMetadata()
			break
		}
	}
	return failure
}

// verdict is what a failed try means for its operation: another node may be tried if final is nil, because the try had no
// effect. Otherwise the operation ends with that error.
type verdict struct {
	failure *NodeFailure
	final   *Error
}

func tryNext(failure *NodeFailure) *verdict { return &verdict{failure: failure} }

func (v *verdict) kind() Kind {
	if v.final == nil {
		return 0
	}
	return v.final.Kind
}

// judgeRead judges a failed read. It has no effect, so another node may be tried unless the request itself was refused.
func judgeRead(failure *NodeFailure) *verdict {
	if final := ofTable(failure); final != nil {
		return &verdict{failure, final}
	}
	if isRefusal(failure) {
		return &verdict{failure, &Error{Kind: Refused, Node: failure}}
	}
	return tryNext(failure)
}

// judgeWrite judges what was said of a write that failed. Another node may be tried only if it certainly did not happen.
func judgeWrite(failure *NodeFailure) *verdict {
	if isUnknownCaller(failure) {
		return tryNext(failure)
	}
	if failure.Reason == "NOT_APPLIED" || failure.Reason == "NOT_READY" {
		if failure.Code == codes.Unavailable || failure.Code == codes.ResourceExhausted {
			return tryNext(failure)
		}
		// With any other code the request itself is at fault, and fails alike when it is sent again.
		return &verdict{failure, &Error{Kind: Refused, Node: failure}}
	}
	if final := ofTable(failure); final != nil {
		return &verdict{failure, final}
	}
	if version, ok := failure.Metadata["version"]; ok {
		switch failure.Reason {
		case "CONDITION_FAILED":
			hasValue := failure.Metadata["has_value"] == "true"
			return &verdict{failure, &Error{Kind: ConditionFailed, Version: version, HasValue: hasValue}}
		case "NOT_A_NUMBER":
			return &verdict{failure, &Error{Kind: NotANumber, Version: version}}
		}
	}
	if isRefusal(failure) {
		return &verdict{failure, &Error{Kind: Refused, Node: failure}}
	}
	return &verdict{failure, &Error{Kind: OutcomeUnknown, Node: failure}}
}

// isUnknownCaller reports whether the node does not know who calls. It has not looked at the request, and another node may know a
// new token.
func isUnknownCaller(failure *NodeFailure) bool {
	return failure != nil && failure.Reason == "UNAUTHENTICATED"
}

func ofTable(failure *NodeFailure) *Error {
	switch failure.Reason {
	case "NO_SUCH_TABLE":
		return &Error{Kind: NoSuchTable, Node: failure}
	case "TABLE_EXISTS":
		return &Error{Kind: TableExists, Node: failure}
	}
	return nil
}

func isRefusal(failure *NodeFailure) bool {
	if failure.Reason != "" {
		return refusals[failure.Reason]
	}
	return refusalCodes[failure.Code]
}
