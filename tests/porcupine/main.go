// Judges histories of one key with porcupine, a linearizability checker that shares no code and no author with
// Quorate's own: a history per line of standard input as JSON, a verdict per line of standard output.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

// The longest that one history may take: seconds are plenty for those of the tests.
const timeout = time.Minute

// One operation, as Quorate's tests write it down.
type operation struct {
	Client  int    `json:"client"`
	Invoked int64  `json:"invoked"`
	Action  string `json:"action"` // read, write, delete
	// What a write wrote or a read saw; absent for nothing.
	Value  *uint64 `json:"value"`
	Ending string  `json:"ending"` // returned, failed, unknown
	// Where it returned.
	Returned int64 `json:"returned"`
}

// What the register holds: a value, or nothing.
type register struct {
	present bool
	value   uint64
}

func holding(value *uint64) register {
	if value == nil {
		return register{}
	}
	return register{present: true, value: *value}
}

var model = porcupine.Model{
	Init: func() interface{} { return register{} },
	Step: func(state, input, _ interface{}) (bool, interface{}) {
		op := input.(operation)
		switch op.Action {
		case "read":
			return state == holding(op.Value), state
		case "write":
			return true, holding(op.Value)
		case "delete":
			return true, register{}
		}
		panic("unknown action " + op.Action)
	},
}

func judge(history []operation) string {
	var operations []porcupine.Operation
	for _, op := range history {
		returned := op.Returned
		switch op.Ending {
		case "returned":
		case "failed":
			// A read says nothing, and the others certainly did not happen.
			continue
		case "unknown":
			if op.Action == "read" {
				continue
			}
			// It may take effect at any later time. That it never does is the same as that it does so after everything else.
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
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "porcupine:", err)
		os.Exit(1)
	}
}
