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
	"time"

	"github.com/anishathalye/porcupine"
)

// The time limit for one history. Those of the tests take far less.
const timeout = time.Minute

// One operation, as Quorate's tests write it.
type operation struct {
	Client  int    `json:"client"`
	Invoked int64  `json:"invoked"`
	Action  string `json:"action"` // read, write, delete
	// The value that a write wrote or a read saw; absent for no value.
	Value  *uint64 `json:"value"`
	Ending string  `json:"ending"` // returned, failed, unknown
	// The time of its return, where it returned.
	Returned int64 `json:"returned"`
}

// The state of the register: a value, or none.
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
			// A failed read tells nothing, and a failed write had no effect.
			continue
		case "unknown":
			if op.Action == "read" {
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
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "porcupine:", err)
		os.Exit(1)
	}
}
