// Judges histories of one key with porcupine, a linearizability checker that shares no code and no author with
// Quorate's own. Standard input has a history in each line, as JSON; standard output gets a verdict in each line.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// The time limit for one history, unless an argument gives another one.
var timeout = time.Minute

// One operation, as Quorate's tests write it.
type operation struct {
	Client  int    `json:"client"`
	Invoked int64  `json:"invoked"`
	Action  string `json:"action"` // read, write, write if, write new, remove, add, look
	// The value that a write wrote, a read saw, or an addition left; absent for no value, and for a sum that nobody knows.
	Value *uint64 `json:"value"`
	// The version that it saw or made; absent where its client was not told.
	Version *uint64 `json:"version"`
	// The condition of a conditional write: absent, present, version, value, among, other, other or absent; and the version or
	// value, or the versions, that it names.
	Condition string   `json:"condition"`
	Names     uint64   `json:"names"`
	Named     []uint64 `json:"named"`
	Delta     int64    `json:"delta"`
	// Whether a failed condition showed a value.
	HasValue bool   `json:"has_value"`
	Ending   string `json:"ending"` // returned, failed, unknown
	// The time of its return, where it returned.
	Returned int64 `json:"returned"`
}

// A version beside the greatest known so far: it is that one, it is above, or it is one of the two.
type told int

const (
	exactly told = iota
	above
	atLeast
)

// The state of the register: a value, or none, and the greatest version known.
type register struct {
	present bool
	value   uint64
	version uint64
	told    told
}

// Whether the register may have this version.
func (state register) mayBe(version uint64) bool {
	switch state.told {
	case exactly:
		return version == state.version
	case above:
		return version > state.version
	default:
		return version >= state.version
	}
}

func (state register) holds(value *uint64) bool {
	return state.present == (value != nil) && (value == nil || *value == state.value)
}

// The state once this version of it was seen.
func (state register) showing(version *uint64) (bool, register) {
	if version == nil {
		return true, state
	}
	ok := state.mayBe(*version)
	state.version, state.told = *version, exactly
	return ok, state
}

// The state after an effect.
func (state register) becoming(value *uint64, version *uint64) (bool, register) {
	next := register{version: state.version, told: above}
	if value != nil {
		next.present, next.value = true, *value
	}
	if version == nil {
		return true, next
	}
	next.version, next.told = *version, exactly
	return *version > state.version, next
}

// The state that a conditional write needs.
func (state register) meeting(op operation) (bool, register) {
	switch op.Condition {
	case "absent":
		return !state.present, state
	case "present":
		return state.present, state
	case "version":
		return state.showing(&op.Names)
	case "value":
		return state.holds(&op.Names), state
	case "among":
		// Where several may be its version, the least asks the least of what follows.
		var least *uint64
		for i := range op.Named {
			if state.mayBe(op.Named[i]) && (least == nil || op.Named[i] < *least) {
				least = &op.Named[i]
			}
		}
		if !state.present || least == nil {
			return false, state
		}
		return state.showing(least)
	case "other", "other or absent":
		if !state.present {
			return op.Condition == "other or absent", state
		}
		return state.told != exactly || !slices.Contains(op.Named, state.version), state
	}
	panic("unknown condition " + op.Condition)
}

func step(state register, op operation) (bool, register) {
	unknown := op.Ending == "unknown"
	version := op.Version
	if unknown {
		version = nil
	}
	switch op.Action {
	case "read":
		if !state.holds(op.Value) {
			return false, state
		}
		return state.showing(version)
	case "look":
		if state.present != op.HasValue {
			return false, state
		}
		return state.showing(version)
	case "write":
		return state.becoming(op.Value, version)
	case "write if":
		ok, base := state.meeting(op)
		if !ok {
			// Where its outcome is unknown, it may never take effect.
			return unknown, state
		}
		return base.becoming(op.Value, version)
	case "write new":
		if state.present {
			return true, state
		}
		return state.becoming(op.Value, version)
	case "remove":
		if state.present {
			return state.becoming(nil, version)
		}
		// A tombstone may have been written above another one.
		if state.told == exactly {
			state.told = atLeast
		}
		return true, state
	case "add":
		sum := state.value + uint64(op.Delta)
		if !unknown && op.Value != nil && *op.Value != sum {
			return false, state
		}
		return state.becoming(&sum, version)
	}
	panic("unknown action " + op.Action)
}

var model = porcupine.Model{
	Init: func() interface{} { return register{} },
	Step: func(state, input, _ interface{}) (bool, interface{}) {
		return step(state.(register), input.(operation))
	},
}

func judge(history []operation) string {
	var operations []porcupine.Operation
	for _, op := range history {
		returned := op.Returned
		switch op.Ending {
		case "returned":
		case "failed":
			// A failed read tells nothing, and a failed write had no effect.
			continue
		case "unknown":
			if op.Action == "read" || op.Action == "look" {
				continue
			}
			// It may take effect at any later time. To take effect after all others is the same as never.
			returned = math.MaxInt64
		default:
			panic("unknown ending " + op.Ending)
		}
		operations = append(operations, porcupine.Operation{
			ClientId: op.Client, Input: op, Call: op.Invoked, Return: returned,
		})
	}
	switch porcupine.CheckOperationsTimeout(model, operations, timeout) {
	case porcupine.Ok:
		return "linearizable"
	case porcupine.Illegal:
		return "not linearizable"
	default:
		return "no verdict"
	}
}

func run(in io.Reader, out io.Writer) error {
	decoder := json.NewDecoder(bufio.NewReader(in))
	writer := bufio.NewWriter(out)
	defer writer.Flush()
	for {
		var history []operation
		if err := decoder.Decode(&history); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		fmt.Fprintln(writer, judge(history))
	}
}

func main() {
	if len(os.Args) > 1 {
		limit, err := time.ParseDuration(os.Args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, "porcupine: the time limit:", err)
			os.Exit(2)
		}
		timeout = limit
	}
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "porcupine:", err)
		os.Exit(1)
	}
}
